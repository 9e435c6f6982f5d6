//! Takes personal data out of captions and metadata.
//!
//! Four kinds are found: e-mail addresses; phone numbers; account numbers (IBAN with its check
//! digits after ISO 13616, payment cards with theirs after Luhn, ISO/IEC 7812); positions on the
//! globe (decimal degrees, degrees with minutes, ISO 6709, `geo:` URIs after RFC 5870, UTM, MGRS,
//! plus codes). Each becomes its kind in brackets: `write to [email]`. Names of persons are not
//! found.

mod accounts;
#[cfg(test)]
mod tests;

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
    text = accounts::replaced(&text);
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
