//! What templates written for Python's jinja2 expect and minijinja does differently: printing of values, `tojson`, string methods,
//! white space, and the tests `iterable`, `sequence` and `number`. An unknown method stays an error: a template we cannot run
//! faithfully must fail, never guess.

use minijinja::value::{from_args, Kwargs, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use std::fmt::Write;

/// float.__repr__
pub fn float_repr(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let shortest = format!("{f:e}");
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{f}");
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

fn is_printable(c: char) -> bool {
    !(c.is_control()
        || (c != ' ' && c.is_whitespace())
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}' | '\u{fff9}'..='\u{fffb}'))
}

fn str_repr(out: &mut String, s: &str) {
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let code = c as u32;
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

fn repr(out: &mut String, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None | ValueKind::Bool => write!(out, "{value}").unwrap_or(()),
        ValueKind::Number if value.is_integer() => write!(out, "{value}").unwrap_or(()),
        ValueKind::Number => out.push_str(&float_repr(f64::try_from(value.clone())?)),
        ValueKind::String => str_repr(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter()?.checked() {
                if count > 0 {
                    out.push_str(", ");
                }
                repr(out, &item?)?;
                count += 1;
            }
            if count == 1 && value.is_tuple() {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                if i > 0 {
                    out.push_str(", ");
                }
                repr(out, &key)?;
                out.push_str(": ");
                repr(out, &value.get_item(&key)?)?;
            }
            out.push('}');
        }
        _ => return Err(Error::new(ErrorKind::InvalidOperation, "value has no Python form")),
    }
    Ok(())
}

/// str(value)
fn to_text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_string()),
        ValueKind::Undefined => Ok(String::new()),
        _ => {
            let mut out = String::new();
            repr(&mut out, value)?;
            Ok(out)
        }
    }
}

fn format_value(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    let written = match value.as_str() {
        Some(s) => out.write_str(s),
        None => out.write_str(&to_text(value)?),
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "out of memory"))
}

struct JsonStyle {
    ascii: bool,
    sort: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

fn json_string(out: &mut String, s: &str, ascii: bool) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn json_key(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_string(),
        ValueKind::None => "null".into(),
        ValueKind::Bool => {
            if key.is_true() {
                "true".into()
            } else {
                "false".into()
            }
        }
        ValueKind::Number => to_text(key)?,
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "keys must be str, int, float, bool or None",
            ))
        }
    })
}

fn json_line(out: &mut String, style: &JsonStyle, depth: usize) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
    }
}

fn json_dump(
    out: &mut String,
    value: &Value,
    style: &JsonStyle,
    depth: usize,
) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => write!(out, "{value}").unwrap_or(()),
        ValueKind::Number => {
            let f = f64::try_from(value.clone())?;
            out.push_str(&match () {
                _ if f.is_nan() => "NaN".to_string(),
                _ if f.is_infinite() => {
                    if f > 0.0 {
                        "Infinity".to_string()
                    } else {
                        "-Infinity".to_string()
                    }
                }
                _ => float_repr(f),
            });
        }
        ValueKind::String => json_string(out, value.as_str().unwrap_or_default(), style.ascii),
        ValueKind::Seq => {
            out.push('[');
            let mut any = false;
            for item in value.try_iter()?.checked() {
                if any {
                    out.push_str(&style.item);
                }
                any = true;
                json_line(out, style, depth + 1);
                json_dump(out, &item?, style, depth + 1)?;
            }
            if any {
                json_line(out, style, depth);
            }
            out.push(']');
        }
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()?.checked() {
                let key = key?;
                entries.push((json_key(&key)?, value.get_item(&key)?));
            }
            if style.sort {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            out.push('{');
            for (i, (key, item)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push_str(&style.item);
                }
                json_line(out, style, depth + 1);
                json_string(out, key, style.ascii);
                out.push_str(&style.key);
                json_dump(out, item, style, depth + 1)?;
            }
            if !entries.is_empty() {
                json_line(out, style, depth);
            }
            out.push('}');
        }
        kind => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("{kind} is not JSON serializable"),
            ))
        }
    }
    Ok(())
}

/// json.dumps with transformers' default ensure_ascii=False.
fn tojson(value: &Value, positional: Option<bool>, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = match kwargs.get::<Option<Value>>("indent")? {
        None => None,
        Some(v) if v.is_none() => None,
        Some(v) => Some(match v.as_str() {
            Some(s) => s.to_string(),
            None => " ".repeat(v.as_i64().unwrap_or(0).clamp(0, 64) as usize),
        }),
    };
    let mut style = JsonStyle {
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.or(positional).unwrap_or(false),
        sort: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        item: if indent.is_some() { ",".into() } else { ", ".into() },
        key: ": ".into(),
        indent,
    };
    if let Some(separators) = kwargs.get::<Option<Value>>("separators")?.filter(|v| !v.is_none()) {
        let pair: Vec<Value> = separators.try_iter()?.collect();
        if let [item, key] = &pair[..] {
            style.item = to_text(item)?;
            style.key = to_text(key)?;
        } else {
            return Err(Error::new(ErrorKind::InvalidOperation, "separators must be a pair"));
        }
    }
    kwargs.assert_all_used()?;
    let mut out = String::new();
    json_dump(&mut out, value, &style, 0)?;
    Ok(Value::from(out))
}

/// str.isspace: Rust's White_Space plus the four separators U+001C..U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn is_line_end(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

fn split_lines(s: &str, keep_ends: bool) -> Value {
    let mut lines = Vec::new();
    let mut rest = s;
    while !rest.is_empty() {
        let (line, with_end) = match rest.char_indices().find(|(_, c)| is_line_end(*c)) {
            Some((at, '\r')) if rest[at + 1..].starts_with('\n') => (at, at + 2),
            Some((at, c)) => (at, at + c.len_utf8()),
            None => (rest.len(), rest.len()),
        };
        lines.push(Value::from(&rest[..if keep_ends { with_end } else { line }]));
        rest = &rest[with_end..];
    }
    Value::from(lines)
}

fn bad(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn string_method(s: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let triple = |a: &str, b: &str, c: &str| {
        Value::from(Tuple::from([Value::from(a), Value::from(b), Value::from(c)]))
    };
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            let drop = |c: char| chars.map_or_else(|| is_space(c), |set| set.contains(c));
            let mut rest = s;
            if method != "rstrip" {
                rest = rest.trim_start_matches(drop);
            }
            if method != "lstrip" {
                rest = rest.trim_end_matches(drop);
            }
            Value::from(rest)
        }
        "split" if args.is_empty() => Value::from(
            s.split(is_space).filter(|w| !w.is_empty()).map(Value::from).collect::<Vec<_>>(),
        ),
        "rsplit" => {
            let (sep, max): (&str, Option<i64>) = from_args(args)?;
            if sep.is_empty() {
                return Err(bad("empty separator"));
            }
            let limit =
                max.filter(|m| *m >= 0).map_or(usize::MAX, |m| (m as usize).saturating_add(1));
            let mut parts: Vec<Value> = s.rsplitn(limit, sep).map(Value::from).collect();
            parts.reverse();
            Value::from(parts)
        }
        "splitlines" => {
            let (keep,): (Option<bool>,) = from_args(args)?;
            split_lines(s, keep.unwrap_or(false))
        }
        "partition" => {
            let (sep,): (&str,) = from_args(args)?;
            s.split_once(sep).map_or_else(|| triple(s, "", ""), |(a, b)| triple(a, sep, b))
        }
        "rpartition" => {
            let (sep,): (&str,) = from_args(args)?;
            s.rsplit_once(sep).map_or_else(|| triple("", "", s), |(a, b)| triple(a, sep, b))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(s.strip_prefix(prefix).unwrap_or(s))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(s.strip_suffix(suffix).unwrap_or(s))
        }
        "index" => {
            let (what,): (&str,) = from_args(args)?;
            Value::from(
                s.find(what)
                    .map(|at| s[..at].chars().count())
                    .ok_or_else(|| bad("substring not found"))?,
            )
        }
        _ => return Ok(None),
    }))
}

fn unknown_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(s) = value.as_str() {
        if let Some(result) = string_method(s, method, args)? {
            return Ok(result);
        }
    } else if value.kind() == ValueKind::Seq && method == "index" {
        let (what,): (&Value,) = from_args(args)?;
        let at = value.try_iter()?.position(|item| item == *what);
        return at.map(Value::from).ok_or_else(|| bad("not in list"));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

pub fn install(env: &mut Environment<'static>) {
    env.set_formatter(format_value);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_unknown_method_callback(unknown_method);
    env.add_filter("tojson", tojson);
    env.add_filter("string", |v: &Value| to_text(v));
    env.add_filter("trim", |v: &Value, chars: Option<&str>| -> Result<String, Error> {
        let text = to_text(v)?;
        Ok(text
            .trim_matches(|c: char| chars.map_or_else(|| is_space(c), |set| set.contains(c)))
            .to_string())
    });
    let sized = |v: &Value| {
        matches!(
            v.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined
        )
    };
    env.add_test("sequence", sized);
    env.add_test("iterable", move |v: &Value| sized(v) || v.kind() == ValueKind::Iterable);
    env.add_test("number", |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("{}{}", crate::template::REFUSED, to_text(message)?),
        ))
    });
}
