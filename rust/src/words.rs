//! Whether text may be cut between words: between an ASCII letter and a single space that an ASCII letter follows.
//!
//! A tokenizer first splits the text at added tokens, then normalizes each stretch, then splits it with patterns, and each piece
//! becomes tokens on its own. So a cut is safe if every step gives on both sides of it what it gives for the whole:
//!
//! - Added tokens: none holds a space, so none reaches across the cut; none looks at what is around it.
//! - Normalization: none, or NFC, which never joins anything with a space.
//! - Patterns, in turn. Each is a list of alternatives from the tables below, without look-behind or anchors, so that a match
//!   depends only on what follows its start. No alternative matches a letter and then a space: a space is matched as the first
//!   character, or by `\s` between white space alone. So no match that starts before the cut ends behind it. Nor does it depend on
//!   what is behind: the one look-ahead, `\s+(?!\S)`, looks at the character after a run of white space, and a run that starts
//!   before the cut ends before the letter; all else takes characters as long as they fit, and what may follow a letter fits
//!   a space as little as the end of the text. Where some alternative matches every ASCII letter, the letter before the cut is
//!   inside a match, which ends at the cut, and matching starts anew there, as it does at the start of a text. Patterns before
//!   that one match neither letters nor spaces, and leave the cut inside of one stretch.

use serde_json::Value;

/// Alternatives that match any ASCII letter, alone or as the first of several.
const WORDS: &[&str] = &[
    r" ?\p{L}+",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r"[^\r\n\p{L}\p{N}]?+\p{L}+",
    r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
];

/// Two alternatives that together match any ASCII letter: words with their capitals first, and those of capitals.
const CASED_WORDS: &[[&str; 2]] = &[
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    ],
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    ],
];

const OTHERS: &[&str] = &[
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    "'(?i:[sdmt]|ll|ve|re)",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
    r" ?\p{N}+",
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]++[\r\n]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r" ?[\p{P}\p{S}]+[\r\n]*",
    r"\s*[\r\n]+",
    r"\s*[\r\n]",
    r"\s+(?!\S)",
    r"\s+",
];

/// Alternatives that match neither ASCII letters nor spaces.
const NEUTRAL: &[&str] = &[r"\p{N}", r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+"];

/// What the ByteLevel pre-tokenizer splits with when told to.
const BYTE_LEVEL: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Neutral,
    /// Ends a piece at every cut.
    Splits,
}

/// The alternatives of a pattern: parts between `|` outside of brackets.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut class, mut escaped) =
        (Vec::new(), 0, 0, false, false);
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => {}
            '[' if !class => class = true,
            ']' if class => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth -= 1,
            '|' if !class && depth == 0 => {
                parts.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&pattern[start..]);
    parts
}

fn pattern_stage(pattern: &str) -> Option<Stage> {
    let pattern = pattern.replace('\r', r"\r").replace('\n', r"\n");
    let parts = alternatives(&pattern);
    if parts.iter().all(|p| NEUTRAL.contains(p)) {
        return Some(Stage::Neutral);
    }
    let cased = CASED_WORDS.iter().find(|pair| pair.iter().all(|p| parts.contains(p)));
    let known = |p: &&str| {
        [WORDS, OTHERS, NEUTRAL].iter().any(|list| list.contains(p))
            || cased.is_some_and(|pair| pair.contains(p))
    };
    let words = cased.is_some() || parts.iter().any(|p| WORDS.contains(p));
    (words && parts.iter().all(known)).then_some(Stage::Splits)
}

fn stage(stage: &Value) -> Option<Stage> {
    let is = |key: &str, value: bool| stage.get(key).and_then(Value::as_bool) == Some(value);
    match stage.get("type")?.as_str()? {
        "Split" if stage.get("behavior")?.as_str()? == "Isolated" && is("invert", false) => {
            pattern_stage(stage.pointer("/pattern/Regex")?.as_str()?)
        }
        "Digits" => Some(Stage::Neutral),
        "ByteLevel" if is("add_prefix_space", false) => match is("use_regex", false) {
            true => Some(Stage::Neutral),
            false => pattern_stage(BYTE_LEVEL),
        },
        _ => None,
    }
}

fn is_composing_at_most(normalizer: &Value) -> bool {
    match normalizer.get("type").and_then(Value::as_str) {
        Some("NFC") => true,
        Some("Sequence") => normalizer
            .get("normalizers")
            .and_then(Value::as_array)
            .is_some_and(|all| all.iter().all(is_composing_at_most)),
        _ => normalizer.is_null(),
    }
}

/// Whether the reasoning above holds for this tokenizer.
pub fn known_to_part(reference: &tokenizers::Tokenizer) -> bool {
    let json = |text: serde_json::Result<Value>| text.unwrap_or(Value::Bool(false));
    let normalizer = json(serde_json::to_value(reference.get_normalizer()));
    let pre_tokenizer = json(serde_json::to_value(reference.get_pre_tokenizer()));
    let stages = match pre_tokenizer.get("pretokenizers").and_then(Value::as_array) {
        Some(stages) => stages.clone(),
        None => vec![pre_tokenizer],
    };
    let tokenizers::ModelWrapper::BPE(bpe) = reference.get_model() else {
        return false;
    };
    // Behind ByteLevel, text is no longer what the patterns are about.
    let bytes_last = stages.iter().rev().skip(1).all(|s| s["type"] != "ByteLevel");
    let known: Option<Vec<Stage>> = stages.iter().map(stage).collect();
    bytes_last
        && known.is_some_and(|stages| stages.contains(&Stage::Splits))
        && is_composing_at_most(&normalizer)
        && bpe.dropout.is_none()
        && reference.get_added_tokens_decoder().values().all(|token| {
            !token.content.contains(' ') && !token.lstrip && !token.rstrip && !token.single_word
        })
}

/// Positions at which a text may be cut.
pub fn cuts(text: &str) -> impl Iterator<Item = usize> + '_ {
    let window =
        |w: &[u8]| w[0].is_ascii_alphabetic() && w[1] == b' ' && w[2].is_ascii_alphabetic();
    text.as_bytes().windows(3).enumerate().filter(move |(_, w)| window(w)).map(|(at, _)| at + 1)
}

/// Texts with cuts between words of many kinds, each beside each of `fragments`.
pub fn probes(fragments: &[&str], added: &[String]) -> Vec<String> {
    let mut texts = Vec::new();
    for (at, fragment) in fragments.iter().enumerate() {
        let next = fragments[(at + 1) % fragments.len()];
        texts.push(format!("{fragment}a b{fragment}C d{next} e F{fragment} g h's i{next}J'LL k"));
        texts.push(format!(
            "x y'{fragment} z the quick{next}o f{fragment}\nnew line  two q r\u{301}{next}"
        ));
    }
    for token in added.iter().step_by(added.len() / 16 + 1) {
        texts.push(format!("a b{token}c d {token} e f{token}"));
    }
    texts
}
