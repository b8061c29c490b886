//! JSON as Python's json module reads it: key order kept, the last of two equal keys wins, integers exact, `-0` an integer.
//! Bounded in depth; strict UTF-8; a lone surrogate is an error because no tokenizer can encode it.

use crate::Failure;
use indexmap::IndexMap;
use minijinja::Value;

const MAX_DEPTH: usize = 64;
/// Values of one document, all levels together: a value takes far more memory than its shortest text.
pub const MAX_VALUES: usize = 1_000_000;

/// Keyed hashing: clients choose the keys.
pub type Object = IndexMap<String, Json, ahash::RandomState>;

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json {
    #[default]
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Arr(Vec<Json>),
    Obj(Object),
}

impl Json {
    pub fn str(text: &str) -> Json {
        Json::Str(text.to_string())
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Str(s) => Some(s),
            _ => None,
        }
    }

    /// Leaves an empty string behind.
    pub fn take_str(&mut self) -> Option<String> {
        match self {
            Json::Str(s) => Some(std::mem::take(s)),
            _ => None,
        }
    }

    /// A member of an object that is present and not null.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Obj(o) => o.get(key).filter(|v| **v != Json::Null),
            _ => None,
        }
    }

    pub fn to_value(&self) -> Value {
        match self {
            Json::Null => Value::from(()),
            Json::Bool(b) => Value::from(*b),
            Json::Int(i) => i64::try_from(*i).map(Value::from).unwrap_or_else(|_| Value::from(*i)),
            Json::Float(f) => Value::from(*f),
            Json::Str(s) => Value::from(s.as_str()),
            Json::Arr(a) => Value::from(a.iter().map(Json::to_value).collect::<Vec<_>>()),
            Json::Obj(o) => Value::from_pairs(o.iter().map(|(k, v)| (k.as_str(), v.to_value()))),
        }
    }
}

/// Parses one JSON value that fills `text`.
pub fn parse(text: &[u8]) -> Result<Json, Failure> {
    parse_within(text, &mut MAX_VALUES.clone())
}

/// The same, taking its values from a budget that several documents share.
pub fn parse_within(text: &[u8], budget: &mut usize) -> Result<Json, Failure> {
    let text = std::str::from_utf8(text)
        .map_err(|e| Failure::invalid(format!("body is not UTF-8 at byte {}", e.valid_up_to())))?;
    let mut p = Parser { text, pos: 0, budget };
    p.space();
    let value = p.value(0)?;
    p.space();
    if p.pos != text.len() {
        return Err(p.error("text after the value"));
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    pos: usize,
    budget: &'a mut usize,
}

impl Parser<'_> {
    fn error(&self, what: &str) -> Failure {
        Failure::invalid(format!("JSON: {what} at byte {}", self.pos))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.pos += 1;
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, Failure> {
        if !self.text[self.pos..].starts_with(word) {
            return Err(self.error("unexpected character"));
        }
        self.pos += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Json, Failure> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested deeper than 64"));
        }
        if *self.budget == 0 {
            return Err(Failure::unsupported(format!("JSON with more than {MAX_VALUES} values")));
        }
        *self.budget -= 1;
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::Str(self.string()?)),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error("expected a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, Failure> {
        let mut object = Object::default();
        self.pos += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.pos += 1;
            return Ok(Json::Obj(object));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a key"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.error("expected ':'"));
            }
            self.pos += 1;
            self.space();
            let value = self.value(depth + 1)?;
            object.insert(key, value);
            self.space();
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b'}') => {
                    self.pos += 1;
                    return Ok(Json::Obj(object));
                }
                _ => return Err(self.error("expected ',' or '}'")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, Failure> {
        let mut items = Vec::new();
        self.pos += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.pos += 1;
            return Ok(Json::Arr(items));
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b']') => {
                    self.pos += 1;
                    return Ok(Json::Arr(items));
                }
                _ => return Err(self.error("expected ',' or ']'")),
            }
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.pos;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.pos += 1;
        }
        self.pos - start
    }

    fn number(&mut self) -> Result<Json, Failure> {
        let start = self.pos;
        if self.peek() == Some(b'-') {
            self.pos += 1;
        }
        let first = self.pos;
        let count = self.digits();
        if count == 0 || (count > 1 && self.text.as_bytes()[first] == b'0') {
            return Err(self.error("bad number"));
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            whole = false;
            self.pos += 1;
            if self.digits() == 0 {
                return Err(self.error("bad number"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            whole = false;
            self.pos += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.pos += 1;
            }
            if self.digits() == 0 {
                return Err(self.error("bad number"));
            }
        }
        let text = &self.text[start..self.pos];
        if whole {
            return text
                .parse()
                .map(Json::Int)
                .map_err(|_| Failure::unsupported("an integer beyond 128 bits".into()));
        }
        text.parse().map(Json::Float).map_err(|_| self.error("bad number"))
    }

    fn hex4(&mut self) -> Result<u32, Failure> {
        let digits = self
            .text
            .as_bytes()
            .get(self.pos..self.pos + 4)
            .ok_or_else(|| self.error("bad escape"))?;
        let mut code = 0;
        for d in digits {
            code = code * 16 + (*d as char).to_digit(16).ok_or_else(|| self.error("bad escape"))?;
        }
        self.pos += 4;
        Ok(code)
    }

    fn string(&mut self) -> Result<String, Failure> {
        self.pos += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text.as_bytes()[self.pos..];
            let plain = rest
                .iter()
                .position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f))
                .ok_or_else(|| self.error("unterminated string"))?;
            out.push_str(&self.text[self.pos..self.pos + plain]);
            self.pos += plain + 1;
            match rest[plain] {
                b'"' => return Ok(out),
                b'\\' => {
                    let escape = self.peek().ok_or_else(|| self.error("unterminated string"))?;
                    self.pos += 1;
                    out.push(match escape {
                        b'"' => '"',
                        b'\\' => '\\',
                        b'/' => '/',
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.escape_u()?,
                        _ => return Err(self.error("bad escape")),
                    });
                }
                _ => return Err(self.error("control character in a string")),
            }
        }
    }

    fn escape_u(&mut self) -> Result<char, Failure> {
        let mut code = self.hex4()?;
        if (0xd800..0xdc00).contains(&code) && self.text.as_bytes()[self.pos..].starts_with(b"\\u")
        {
            self.pos += 2;
            let low = self.hex4()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.error("lone surrogate"));
            }
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        char::from_u32(code).ok_or_else(|| self.error("lone surrogate"))
    }
}
