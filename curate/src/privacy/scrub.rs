//! Takes personal data out of captions and metadata.
//!
//! Four kinds are found: e-mail addresses; phone numbers; account numbers (IBAN with its check
//! digits after ISO 13616, payment cards with theirs after Luhn, ISO/IEC 7812); positions on the
//! globe (decimal degrees, degrees with minutes, ISO 6709, `geo:` URIs after RFC 5870, UTM, MGRS,
//! plus codes). Each becomes its kind in brackets: `write to [email]`. Names of persons are not
//! found.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};
use serde_json::{Map, Value};

/// `text` without e-mail addresses, phone numbers, account numbers and positions. Where something
/// goes, the digits of all scripts that stay become ASCII's.
pub fn scrub(text: &str) -> String {
    let plain = with_ascii_digits(text);
    let mut scrubbed = replaced(&plain);
    if scrubbed == plain {
        return text.into();
    }
    // What goes can bring to light what stood too close to it. It ends, as digits and signs only go.
    loop {
        let again = replaced(&scrubbed);
        if again == scrubbed {
            return scrubbed;
        }
        scrubbed = again;
    }
}

/// The text with ASCII digits in place of those of other scripts: numbers are the same in all.
fn with_ascii_digits(text: &str) -> Cow<'_, str> {
    let is_digit = |code: u32| {
        let character = char::from_u32(code);
        character.is_some_and(|c| OTHER_DIGIT.is_match(c.encode_utf8(&mut [0; 4])))
    };
    OTHER_DIGIT.replace_all(text, |found: &Captures| {
        let code = found[0].chars().next().map_or(0, u32::from);
        // Unicode has the digits of a script side by side, from 0 to 9.
        let before = (1..code).take_while(|back| is_digit(code - back)).count();
        (before % 10).to_string()
    })
}

/// One pass over a text whose digits are ASCII.
fn replaced(text: &str) -> String {
    let mut text = EMAIL.replace_all(text, "[email]").into_owned();
    for pattern in POSITIONS.iter() {
        text = pattern.replace_all(&text, "[position]").into_owned();
    }
    text = DEGREES.replace_all(&text, degrees).into_owned();
    text = IBAN.replace_all(&text, iban).into_owned();
    text = CARD.replace_all(&text, card).into_owned();
    for pattern in PHONES.iter() {
        text = pattern.replace_all(&text, phone).into_owned();
    }
    text
}

/// Scrubs every text and number within `value`. What stands under a key that names personal data
/// (`latitude`, `phone`, `email`, `iban`) goes whatever it looks like.
pub fn scrub_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(scrub(text)),
        Value::Number(number) => {
            let text = number.to_string();
            let scrubbed = scrub(&text);
            if scrubbed == text {
                value.clone()
            } else {
                Value::String(scrubbed)
            }
        }
        Value::Array(values) => Value::Array(values.iter().map(scrub_value).collect()),
        Value::Object(fields) => {
            let scrubbed = fields.iter().map(|(key, value)| {
                let value = kind_of_key(key).map_or_else(|| scrub_value(value), Value::from);
                (scrub(key), value)
            });
            Value::Object(scrubbed.collect::<Map<_, _>>())
        }
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// The kind of personal data that a metadata key announces.
fn kind_of_key(key: &str) -> Option<&'static str> {
    let matched = KEYS.captures(key)?;
    ["position", "phone", "email", "account"]
        .into_iter()
        .zip(["[position]", "[phone]", "[email]", "[account]"])
        .find_map(|(group, replacement)| matched.name(group).map(|_| replacement))
}

fn pattern(text: &str) -> Regex {
    // The patterns are constants, and each is compiled by the tests.
    #[allow(clippy::expect_used)]
    Regex::new(text).expect("a constant pattern")
}

/// A decimal digit of another script than ASCII's.
static OTHER_DIGIT: LazyLock<Regex> = LazyLock::new(|| pattern(r"[\p{Nd}--[0-9]]"));

/// Keys such as `GPSLatitude`, `geo_location`, `lng`, `contact-phone`, `card_number`.
static KEYS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?ix)
        (?<position> latitude | longitude | gps | coordinates | iso6709
                   | (^|[^a-z]) (lat|lon|lng|geo|location|position) ([^a-z]|$) )
      | (?<phone> phone | mobile | whatsapp | (^|[^a-z]) (tel|fax|cell) ([^a-z]|$) )
      | (?<email> e-?mail )
      | (?<account> iban | (account|card) [^a-z]? (no|nr|number) | credit[^a-z]?card )",
    )
});

/// `name@host.tld`, also written `name (at) host (dot) tld` or `name [at] host.tld`.
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?ix)
        [\p{L}\p{N}._%+'-]+
        (?: @ | \s* (?: \(at\) | \[at\] | \{at\} ) \s* )
        [\p{L}\p{N}-]+ (?: (?: \. | \s* (?: \(dot\) | \[dot\] | \{dot\} ) \s* ) [\p{L}\p{N}-]+ )+",
    )
});

/// Positions that their notation gives away.
static POSITIONS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // RFC 5870 and links to maps.
        r"(?i)\bgeo:\s*-?\d{1,2}(\.\d+)?,-?\d{1,3}(\.\d+)?(,-?\d+(\.\d+)?)?",
        r"@-?\d{1,2}\.\d+,-?\d{1,3}\.\d+(,\d+(\.\d+)?[a-z])?",
        // ISO 6709, as cameras and phones write it: +48.8584+002.2945+035.00/
        r"[+-]\d{2,6}(\.\d+)?[+-]\d{3,7}(\.\d+)?([+-]\d+(\.\d+)?)?(CRS\w+)?/",
        // Degrees with minutes and seconds: 48°51′30″N, 48° 51.5' N, 48°51'30.1"
        r#"(?ix) (?: \b[NSEW]\s* )? \b\d{1,3}\s*[°º]\s* \d{1,2}(?:[.,]\d+)?\s*['′’]
           (?: \s* \d{1,2}(?:[.,]\d+)?\s* (?: ["″”] | '' | ′′ ) )? (?: \s*[NSEWO]\b )?"#,
        // Decimal degrees with a sphere's half: 48.8584° N, N 48.8584, 2.29E
        r"(?x) \b\d{1,3}[.,]\d{2,}\s*[°º]?\s*[NSEW]\b | \b[NSEW]\s*\d{1,3}[.,]\d{3,}(?:\s*[°º])?",
        r"(?x) \b\d{1,3}[.,]\d+\s*[°º]\s*(?:[NSEWO]\b|(?i:north|south|east|west)\b)",
        // A labelled number: lat: 48.85, longitude = -2.3
        r"(?ix) \b(?:lat|latitude|lon|lng|long|longitude)\b \s*[:=]\s* [+-]?\d{1,3}(?:[.,]\d+(?:\s*[°º])?|\s*[°º])",
        // UTM and MGRS: 33U 391542 5819694, 33UXP0500444999
        r"\b\d{1,2}\s?[C-HJ-NP-X]\s\d{6}(\.\d+)?\s*m?E?,?\s\d{7}(\.\d+)?(\s*m?N)?\b",
        r"\b\d{1,2}[C-HJ-NP-X]\s?[A-HJ-NP-Z][A-HJ-NP-V]\s?(\d{4}\s?\d{4}|\d{5}\s?\d{5})\b",
        // Plus codes (open location codes): 8FVC9G8F+6X
        r"\b[23456789CFGHJMPQRVWX]{8}\+[23456789CFGHJMPQRVWX]{2,3}\b",
    ]
    .map(pattern)
    .into()
});

/// Two decimal numbers side by side that may be degrees, with at least three places, which is some
/// 100 m. Other such pairs go as well: rather one number too many than one address.
static DEGREES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x) (?<before> ^ | [^\d.,\w+-] )
        (?<latitude> [+-]?\d{1,2}\.\d{3,} ) \s* [,;/\s] \s* (?<longitude> [+-]?\d{1,3}\.\d{3,} ) \b",
    )
});

fn degrees(found: &Captures) -> String {
    let within = |name: &str, limit: f64| {
        let value = found[name].parse::<f64>();
        value.is_ok_and(|value| value.abs() <= limit)
    };
    if within("latitude", 90.0) && within("longitude", 180.0) {
        format!("{}[position]", &found["before"])
    } else {
        found[0].into()
    }
}

/// Two letters, two digits and 11 to 30 letters or digits, perhaps in groups. All are ASCII: without
/// regard to case, `K` would be the sign of kelvins as well.
static IBAN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}\b"));

/// What follows an account number may look as if it belonged to it, so the longest beginning that
/// ends with a group and has the right check digits is taken.
fn iban(found: &Captures) -> String {
    let text = &found[0];
    let ends = text.char_indices().filter(|(_, c)| " -".contains(*c));
    let ends: Vec<usize> = ends.map(|(i, _)| i).chain([text.len()]).collect();
    for end in ends.into_iter().rev() {
        let number: String = text[..end].chars().filter(|c| !" -".contains(*c)).collect();
        if (15..=34).contains(&number.len()) && iban_holds(&number) {
            return format!("[account]{}", &text[end..]);
        }
    }
    text.into()
}

/// ISO 13616: with the first four characters moved to the end and letters read as 10 to 35, the
/// number is 1 modulo 97.
fn iban_holds(number: &str) -> bool {
    let turned = number[4..].chars().chain(number[..4].chars());
    let rest = turned.fold(0, |rest, c| {
        let digit = c.to_digit(36).unwrap_or(0);
        (rest * if digit > 9 { 100 } else { 10 } + digit) % 97
    });
    rest == 1
}

/// 13 to 19 digits, perhaps in groups.
static CARD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[0-9](?:[ -]?[0-9]){12,18}\b"));

/// A card has a known issuer's first digits (ISO/IEC 7812) and Luhn's check digit.
fn card(found: &Captures) -> String {
    let digits: Vec<u32> = found[0].chars().filter_map(|c| c.to_digit(10)).collect();
    let first_four = digits[..4]
        .iter()
        .fold(0, |number, digit| number * 10 + digit);
    let issued = matches!(first_four, 2221..=2720 | 3000..=3999 | 4000..=6999);
    if issued && luhn_holds(&digits) {
        "[account]".into()
    } else {
        found[0].into()
    }
}

/// From the right, every second digit doubled and its digits added: the sum is a multiple of ten.
fn luhn_holds(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

static PHONES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // International: +49 30 1234567
        r"(?x) (?<before>^|[^\w.+]) (?<number> \+ \s? [1-9] (?: [\s().\-/]{0,3} \d ){6,14} ) \b",
        // The same as 0049 (0)30/1234567, where it does not go on from other digits.
        r"(?x) (?<before>^\s*|[^\d\s]\s+|[(\[]) (?<number> 00 \s? [1-9] (?: [\s().\-/]{0,3} \d ){6,14} ) \b",
        // With the area in brackets, or in groups of three, three and four: (555) 123-4567, 555.123.4567
        r"(?x) (?<before>^|[^\w.,+]) (?<number> \(\d{2,5}\) \s? \d (?: [\s.\-/]? \d ){4,9} ) \b",
        r"(?x) (?<before>^|[^\w.,+-]) (?<number> (?:1[\s.-])? [2-9]\d{2} [.\s-] [2-9]\d{2} [.\s-] \d{4} ) \b",
        // National, with the leading zero: 030 1234567, 0171/1234567, 020 7946 0958
        r"(?x) (?<before>^\s*|[^\d\s]\s+|[(\[]) (?<number> 0[1-9] (?: [\s\-/]? \d ){6,10} ) \b",
        // Whatever a word announces: call 5551234, tel. 123 45 67
        r"(?ix) (?<before> \b (?: tele(?:ph|f)on | phone | tel | call | mobile | cell | fax | whatsapp | sms )
           (?: \s (?: me | us | number | no | nr | at | on ) )* [\s.:]{1,3} ) (?<number> \+? \d (?: [\s().\-/]? \d ){5,14} ) \b",
    ]
    .map(pattern)
    .into()
});

/// A day: 05-11-2024, 01/02/24, 2024-11-05.
static DAY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^(\d{1,2}[./ -]\d{1,2}[./ -](\d{2}|\d{4})|\d{4}[./ -]\d{1,2}[./ -]\d{1,2})\b")
});

fn phone(found: &Captures) -> String {
    if DAY.is_match(&found["number"]) {
        return found[0].into();
    }
    format!("{}[phone]", &found["before"])
}

#[cfg(test)]
mod tests {
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
}
