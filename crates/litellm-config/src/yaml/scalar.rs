//! What PyYAML makes of a scalar.
//!
//! The rules are those of YAML 1.1 as PyYAML 6 applies them (its `resolver.py` and `constructor.py`, read
//! 2026-11-26); `tests/it/pyyaml.rs` compares with the real one.

use std::sync::LazyLock;

use regex::Regex;

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bare: it may be a number, a switch, a date.
    Plain,
    /// In quotes, either kind: always a string.
    Quoted,
    /// `|`: always a string.
    Literal,
    /// `>`: always a string.
    Folded,
}

/// A scalar: its text after escapes, and how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// Without quotes.
    pub text: String,
    /// As it stands in the file.
    pub style: Style,
}

/// What PyYAML reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resolved {
    /// The text as it is.
    Str,
    /// Nothing.
    Null,
    /// A switch.
    Bool(bool),
    /// A whole number; beyond 128 bits the nearest that fits.
    Int(i128),
    /// A number.
    Float(f64),
    /// A date or a time.
    Timestamp,
    /// `<<`.
    Merge,
    /// It looks like a number, a date or `=`, and PyYAML fails on it.
    Refused,
}

macro_rules! pattern {
    ($name:ident, $pattern:expr) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($pattern).expect("a constant pattern is valid"));
    };
}

pattern!(BOOL, "^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$");
pattern!(
    FLOAT,
    r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
);
pattern!(
    INT,
    r"^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$"
);
pattern!(
    TIMESTAMP,
    r"^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)$"
);

impl Scalar {
    /// A string, in whatever style it needs.
    pub fn string(text: impl Into<String>) -> Self {
        let text = text.into();
        let style = if is_word(&text) { Style::Plain } else { Style::Quoted };
        Self { text, style }
    }

    /// A bare text.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: Style::Plain }
    }

    /// A number without an exponent, but for those that would be hundreds of digits.
    pub(crate) fn float(value: f64) -> Self {
        let text = if value.is_nan() {
            ".nan".to_owned()
        } else if value.is_infinite() {
            if value > 0.0 { ".inf".to_owned() } else { "-.inf".to_owned() }
        } else if value != 0.0 && !(1e-30..1e30).contains(&value.abs()) {
            with_signed_exponent(&format!("{value:e}"))
        } else {
            let text = value.to_string();
            if text.contains('.') { text } else { format!("{text}.0") }
        };
        Self::plain(text)
    }

    /// What PyYAML makes of it.
    pub fn resolve(&self) -> Resolved {
        if self.style == Style::Plain { resolve_plain(&self.text) } else { Resolved::Str }
    }

    pub(crate) fn resolve_tagged(&self, tag: Option<&str>) -> Resolved {
        match tag {
            // PyYAML takes no notice of a tag without a name.
            None | Some("!") => self.resolve(),
            Some("!!str") => Resolved::Str,
            // `!!int "5"`: what the text is where it stands bare.
            Some(_) => resolve_plain(&self.text),
        }
    }
}

/// PyYAML wants a point and a sign: `1.0e-40`.
fn with_signed_exponent(text: &str) -> String {
    let (number, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let point = if number.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{number}{point}e{sign}{exponent}")
}

/// Whether the text can stand bare: a word that no version of YAML takes for anything else.
pub(crate) fn is_word(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let first = |c: char| c.is_ascii_alphabetic() || c == '/';
    text.starts_with(first)
        && text.chars().all(inner)
        && resolve_plain(text) == Resolved::Str
        // `y` and `n` are switches in YAML 1.1, though not in PyYAML.
        && !matches!(text, "y" | "Y" | "n" | "N")
}

pub(crate) fn resolve_plain(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Resolved::Null,
        "<<" => Resolved::Merge,
        "=" => Resolved::Refused,
        _ if BOOL.is_match(text) => {
            let lower = text.to_ascii_lowercase();
            Resolved::Bool(matches!(lower.as_str(), "yes" | "true" | "on"))
        }
        // In PyYAML's order: a float first.
        _ if FLOAT.is_match(text) => float(text).map_or(Resolved::Refused, Resolved::Float),
        _ if INT.is_match(text) => int(text).map_or(Resolved::Refused, Resolved::Int),
        _ if TIMESTAMP.is_match(text) => {
            if is_a_date(text) {
                Resolved::Timestamp
            } else {
                Resolved::Refused
            }
        }
        _ => Resolved::Str,
    }
}

fn sign_and_rest(text: &str) -> (f64, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    }
}

fn float(text: &str) -> Option<f64> {
    let text = text.replace('_', "").to_lowercase();
    let (sign, rest) = sign_and_rest(&text);
    match rest {
        ".inf" => return Some(sign * f64::INFINITY),
        ".nan" => return Some(f64::NAN),
        _ => {}
    }
    let parts: Option<Vec<f64>> = rest.split(':').map(|part| part.parse().ok()).collect();
    // In PyYAML's order, so that the last bit is the same.
    let sum = |(sum, base): (f64, f64), part| (sum + part * base, base * 60.0);
    Some(sign * parts?.into_iter().rev().fold((0.0, 1.0), sum).0)
}

fn int(text: &str) -> Option<i128> {
    let text = text.replace('_', "");
    let (sign, rest) = sign_and_rest(&text);
    let sign = if sign < 0.0 { -1 } else { 1 };
    let digits = |digits: &str, base| {
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
        all.then(|| i128::from_str_radix(digits, base).unwrap_or(i128::MAX))
    };
    let value = if rest == "0" {
        0
    } else if let Some(binary) = rest.strip_prefix("0b") {
        digits(binary, 2)?
    } else if let Some(hexadecimal) = rest.strip_prefix("0x") {
        digits(hexadecimal, 16)?
    } else if rest.starts_with('0') {
        digits(rest, 8)?
    } else if rest.contains(':') {
        let parts: Option<Vec<i128>> = rest.split(':').map(|part| digits(part, 10)).collect();
        parts?.into_iter().fold(0, |sum: i128, part| sum.saturating_mul(60).saturating_add(part))
    } else {
        digits(rest, 10)?
    };
    Some(sign * value)
}

/// Whether Python's `datetime` takes the numbers.
fn is_a_date(text: &str) -> bool {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    let mut next = || numbers.next().and_then(|part| part.parse::<u32>().ok());
    let (year, month, day) = (next().unwrap_or(0), next().unwrap_or(0), next().unwrap_or(0));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    let time = [next(), next(), next()];
    let fits = time[0].is_none_or(|hour| hour < 24)
        && time[1].is_none_or(|minute| minute < 60)
        && (time[2].is_none_or(|second| second < 60));
    year > 0 && (1..=days).contains(&day) && fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traps_of_yaml_1_1_are_seen() {
        let cases = [
            ("yes", Resolved::Bool(true)),
            ("Off", Resolved::Bool(false)),
            ("y", Resolved::Str),
            ("007", Resolved::Int(7)),
            ("0o7", Resolved::Str),
            ("08", Resolved::Str),
            ("0x1F", Resolved::Int(31)),
            ("1_000", Resolved::Int(1000)),
            ("1:30", Resolved::Int(90)),
            ("190:20:30.15", Resolved::Float(685_230.15)),
            ("1e3", Resolved::Str),
            ("1.0e3", Resolved::Str),
            ("1.0e+3", Resolved::Float(1000.0)),
            ("2024-06-01", Resolved::Timestamp),
            ("2024-13-01", Resolved::Refused),
            ("~", Resolved::Null),
            ("<<", Resolved::Merge),
            ("=", Resolved::Refused),
            (".5", Resolved::Float(0.5)),
            ("gpt-4o", Resolved::Str),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve_plain(text), expected, "{text}");
        }
    }

    #[test]
    fn prices_are_written_without_an_exponent() {
        assert_eq!(Scalar::float(0.000_001).text, "0.000001");
        assert_eq!(Scalar::float(5.9e-7).text, "0.00000059");
        assert_eq!(Scalar::float(3.0).text, "3.0");
        assert_eq!(Scalar::float(1e-40).text, "1.0e-40");
        assert_eq!(Scalar::float(1.5e40).text, "1.5e+40");
    }
}
