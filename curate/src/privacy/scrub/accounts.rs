//! Account numbers, told from other numbers by their check digits.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::pattern;

/// `text` with `[account]` for every IBAN and payment card.
pub(super) fn replaced(text: &str) -> String {
    let text = IBAN.replace_all(text, iban);
    CARD.replace_all(&text, card).into_owned()
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
