//! What goes and what stays.

use super::*;
use proptest::prelude::*;

proptest! {
    /// Of any text, and of texts made of what the patterns look for.
    #[test]
    fn any_text_is_scrubbed_once_and_for_all(
        any in any::<String>(),
        likely in r"([0-9]{1,4}|[٠-٩]{1,13}|[０-９𝟎-𝟿]|[A-Z]{2}|[\u{212a}ſéN@.,+/° -]|lat: |tel |\(at\)|geo:){0,16}",
    ) {
        for text in [any, likely] {
            let once = scrub(&text);
            prop_assert_eq!(scrub(&once), once);
        }
    }
}

#[test]
fn numbers_go_in_every_script() {
    for (text, expected) in [
        ("card ٤١١١ ١١١١ ١١١١ ١١١١", "card [account]"),
        ("card ４１１１１１１１１１１１１１１１", "card [account]"),
        ("tel: १२३४५६७", "tel: [phone]"),
        ("𝟰𝟴.𝟴𝟱𝟴𝟰, 𝟮.𝟮𝟵𝟰𝟱", "[position]"),
        ("IBAN DE๘๙370400440532013000", "IBAN [account]"),
        // Nothing in it is personal, so that it stays as it is.
        ("٢ قطط, ２匹", "٢ قطط, ２匹"),
        ("٤١١١ ١١١١ ١١١١ ١١١٢", "٤١١١ ١١١١ ١١١١ ١١١٢"),
        // The sign of kelvins has more bytes than the letter.
        (
            "G\u{212a}82WEST12345698765432",
            "G\u{212a}82WEST12345698765432",
        ),
    ] {
        assert_eq!(scrub(text), expected);
    }
}

#[test]
fn what_stands_behind_goes_too() {
    let text = "030 1234567 030 1234567 030 1234567";
    assert_eq!(scrub(text), "[phone] [phone] [phone]");
}

#[test]
fn personal_data_goes() {
    for (text, expected) in [
        // e-mail
        (
            "Write to jane.doe+tag@mail.example.org.",
            "Write to [email].",
        ),
        ("<MÜLLER@büro.example>", "<[email]>"),
        ("o'neill@example.co.uk wrote", "[email] wrote"),
        ("jane (at) example (dot) com", "[email]"),
        ("jane[at]example.com", "[email]"),
        // phone
        ("call +49 (0)30 1234567 now", "call [phone] now"),
        ("+15551234567", "[phone]"),
        ("0049-30-123456", "[phone]"),
        ("(555) 123-4567", "[phone]"),
        ("555-123-4567,", "555-123-4567,"), // no exchange begins with 1
        ("at 415.555.2671.", "at [phone]."),
        ("1-415-555-2671", "[phone]"),
        ("030 1234567", "[phone]"),
        ("0171/1234567", "[phone]"),
        ("020 7946 0958", "[phone]"),
        ("tel: 1234567", "tel: [phone]"),
        ("Call me at 5551234!", "Call me at [phone]!"),
        (
            "two: +33 1 42 68 53 00, +33 6 12 34 56 78",
            "two: [phone], [phone]",
        ),
        // accounts
        (
            "IBAN DE89 3704 0044 0532 0130 00 please",
            "IBAN [account] please",
        ),
        ("GB82WEST12345698765432", "[account]"),
        ("gb82 west 1234 5698 7654 32", "[account]"),
        ("FR14 2004 1010 0505 0001 3M02 606", "[account]"),
        ("NO93-8601-1117-947", "[account]"),
        ("card 4111 1111 1111 1111", "card [account]"),
        ("5555-5555-5555-4444", "[account]"),
        ("378282246310005", "[account]"),
        ("2223003122003222", "[account]"),
        // positions
        ("48.8584, 2.2945", "[position]"),
        ("at (48.8584,-2.2945) exactly", "at ([position]) exactly"),
        ("-33.8568 151.2153", "[position]"),
        ("48°51′30″N 2°17′40″E", "[position] [position]"),
        ("48° 51.5' N, 2° 17.7' E", "[position], [position]"),
        ("48°51'30.1\"N", "[position]"),
        ("48.8584° N, 2.2945° E", "[position], [position]"),
        ("N 48.8584 E 2.2945", "[position] [position]"),
        ("+48.8584+002.2945+035.000/", "[position]"),
        ("geo:48.2010,16.3695,183", "[position]"),
        (
            "https://maps.example/@48.8584,2.2945,17z",
            "https://maps.example/[position]",
        ),
        ("lat: 48.85, lon: 2.29", "[position], [position]"),
        ("33U 391542 5819694", "[position]"),
        ("33UXP0500444999", "[position]"),
        ("8FVC9G8F+6X", "[position]"),
    ] {
        assert_eq!(scrub(text), expected);
    }
}

#[test]
fn clean_texts_stay_as_they_are() {
    for text in [
        "",
        "A cat walks on the grass, realistic style.",
        "Shot in 1999-2001 at 24 fps, 1920x1080, ISO 12800, f/2.8, 1/250 s",
        "16:9, 2.39:1, 23.976 fps, 00:12:34.567, 12:30",
        "05-11-2024, 01/02/2024, 2024-11-05, 5.11.2024, 01 02 2024",
        "10.0.19045.3448 and 192.168.100.200",
        "1 000 000 views, 12,345,678 likes, 3.14159 and 0.123456789",
        "frames 100-250, chapters 1 - 12, pages 123-456",
        "the angle is 45°, 30° to the left, at 20.5°C",
        "between 20° and 30°, 5' 11\" tall",
        "twitter @handle, @ 5 pm, a@b",
        "4111 1111 1111 1112",         // wrong check digit
        "1700000000000",               // a time in milliseconds
        "DE88 3704 0044 0532 0130 00", // wrong check digits
        "GB82 TEST 1234 5698 7654 32",
        "it costs 0.005 to 0.010 a piece",
        "scores 98.1234, 250.5678",
        "speed 3.125 m/s, 5.250 m/s", // not two degrees
        "long: 5 minutes of rain",
        "BMW M3, A4, C++20, H.264, MP3, 4K60",
        "a 555 timer, 747-400, 737-800, 911",
        "日本の猫、2匹",
    ] {
        assert_eq!(scrub(text), text);
    }
}

#[test]
fn scrubbing_twice_changes_nothing_more() {
    let text = "jane@example.com, +49 30 1234567, DE89370400440532013000, 48.8584, 2.2945";
    let once = scrub(text);
    assert_eq!(once, "[email], [phone], [account], [position]");
    assert_eq!(scrub(&once), once);
}

#[test]
fn metadata_is_scrubbed_through_and_through() {
    let metadata = serde_json::json!({
        "GPSLatitude": 48.8584,
        "location": {"lat": 1, "lng": 2},
        "platform": "web",
        "contact": {"phone": 5_551_234, "people": ["jane@example.com", 7]},
        "jane@example.com": true,
        "card_number": "secret",
        "amount": 4_111_111_111_111_111_u64,
        "translation": "none",
        "fps": 23.976,
    });
    let expected = serde_json::json!({
        "GPSLatitude": "[position]",
        "location": "[position]",
        "platform": "web",
        "contact": {"phone": "[phone]", "people": ["[email]", 7]},
        "[email]": true,
        "card_number": "[account]",
        "amount": "[account]",
        "translation": "none",
        "fps": 23.976,
    });
    assert_eq!(scrub_value(&metadata), expected);
}
