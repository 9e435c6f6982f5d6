//! Numbers of the configuration and the ranges that they have to be in.

use std::{
    fmt::Display,
    ops::{Bound, RangeBounds},
};

/// Whether the values of a section of the configuration can be carried out; if not, which one and what is allowed:
/// `min_area is 5; it has to be at least 0 and at most 1`.
pub(crate) type Checked = Result<(), String>;

/// Checks that a number lies within its range. None that is not finite does: the record of a run,
/// which is JSON, could not hold it.
pub(crate) fn within<T>(key: &str, value: T, range: impl RangeBounds<T>) -> Checked
where
    T: Display + PartialOrd,
{
    // By way of its text, for want of a conversion that whole numbers of all sizes have.
    let finite = value.to_string().parse().is_ok_and(f64::is_finite);
    if finite && range.contains(&value) {
        return Ok(());
    }
    let low = match range.start_bound() {
        Bound::Included(low) => Some(format!("at least {low}")),
        Bound::Excluded(low) => Some(format!("more than {low}")),
        Bound::Unbounded => None,
    };
    let high = match range.end_bound() {
        Bound::Included(high) => Some(format!("at most {high}")),
        Bound::Excluded(high) => Some(format!("less than {high}")),
        Bound::Unbounded if finite => None,
        Bound::Unbounded => Some("finite".into()),
    };
    let bounds: Vec<String> = low.into_iter().chain(high).collect();
    Err(format!(
        "{key} is {value}; it has to be {}",
        bounds.join(" and ")
    ))
}

/// All numbers above this.
pub(crate) fn above<T>(low: T) -> (Bound<T>, Bound<T>) {
    (Bound::Excluded(low), Bound::Unbounded)
}

/// The numbers above `low` up to `high`.
pub(crate) fn above_to<T>(low: T, high: T) -> (Bound<T>, Bound<T>) {
    (Bound::Excluded(low), Bound::Included(high))
}
