//! Days of the calendar.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A day of the Gregorian calendar, written `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Date {
    year: i64,
    month: u8,
    day: u8,
}

impl Date {
    /// Today, in UTC.
    pub fn today() -> Self {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self::from_days(seconds / 86_400)
    }

    /// The day that follows 1970-01-01 by `days`.
    fn from_days(days: u64) -> Self {
        let mut left = days;
        let mut date = Self {
            year: 1970,
            month: 1,
            day: 1,
        };
        while left >= u64::from(date.days_in_month()) {
            left -= u64::from(date.days_in_month());
            date.month += 1;
            if date.month > 12 {
                date.month = 1;
                date.year += 1;
            }
        }
        // Less than the days of a month.
        date.day += u8::try_from(left).unwrap_or(0);
        date
    }

    fn days_in_month(self) -> u8 {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '-');
        let mut part = |digits: usize| {
            let part = parts.next()?;
            let plain = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<u16>().ok()).flatten()
        };
        let date = part(4).zip(part(2)).zip(part(2));
        let date = date.and_then(|((year, month), day)| {
            let date = Self {
                year: year.into(),
                month: u8::try_from(month).ok()?,
                day: u8::try_from(day).ok()?,
            };
            let real = (1..=12).contains(&month) && (1..=date.days_in_month()).contains(&date.day);
            real.then_some(date)
        });
        date.ok_or_else(|| format!("`{text}` is not a day; write YYYY-MM-DD, as 2027-01-31"))
    }
}

/// A day in quotes, or as TOML writes it without.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a day has to be written YYYY-MM-DD, as 2027-01-31"
)]
enum Written {
    Quoted(String),
    Bare(toml::value::Datetime),
}

impl TryFrom<Written> for Date {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Quoted(text) => text.parse(),
            Written::Bare(day) => day.to_string().parse(),
        }
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_since_the_epoch_are_calendar_days() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (10_957, "2000-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_778, "2026-11-21"),
        ] {
            assert_eq!(Date::from_days(days).to_string(), expected);
        }
    }

    #[test]
    fn only_real_days_are_read() {
        for good in ["2024-02-29", "2000-02-29", "2026-12-31"] {
            assert_eq!(good.parse::<Date>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "2026",
            "2026-2-1",
            "2026-13-01",
            "2026-00-10",
            "2023-02-29",
            "2100-02-29",
            "2026-04-31",
            "2026-11-21T00:00",
            "+026-11-21",
            "21.11.2026",
        ] {
            assert!(bad.parse::<Date>().is_err(), "{bad}");
        }
    }

    #[test]
    fn earlier_days_are_less() {
        let mut days: Vec<Date> = ["2026-11-21", "2026-02-28", "2025-12-31", "2026-11-03"]
            .map(|day| day.parse().unwrap())
            .to_vec();
        days.sort();
        let days: Vec<String> = days.iter().map(Date::to_string).collect();
        assert_eq!(
            days,
            ["2025-12-31", "2026-02-28", "2026-11-03", "2026-11-21"]
        );
    }
}
