//! Text to token ids and back: fastokens where it proves equal to Hugging Face tokenizers, the latter otherwise.

use crate::{words, Failure};
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;
use std::path::Path;

enum Backend {
    Fast(Box<fastokens::Tokenizer>),
    Reference(Box<tokenizers::Tokenizer>),
}

pub struct Tokens {
    backend: Backend,
    /// Added tokens matched on raw text, with whether each ends a piece; None when pieces cannot be tokenized on their own.
    cutter: Option<(AhoCorasick, Vec<bool>)>,
    /// Whether text may be cut between words: see words.rs.
    pub cuts_between_words: bool,
    pub vocab_size: u32,
    /// Why the fast path is not used; empty when it is.
    pub fallback_reason: String,
}

impl Tokens {
    pub fn load(dir: &Path) -> Result<Tokens, Failure> {
        let path = dir.join("tokenizer.json");
        let bad = |e: &dyn std::fmt::Display| Failure::invalid(format!("{}: {e}", path.display()));
        let bytes = std::fs::read(&path).map_err(|e| bad(&e))?;
        // The two load side by side: together they take about a second and a half of CPU.
        let (fast, reference) = std::thread::scope(|scope| {
            let fast = scope.spawn(|| build_fast(&bytes));
            let reference = tokenizers::Tokenizer::from_bytes(&bytes);
            (
                fast.join()
                    .unwrap_or_else(|_| Err("the fast tokenizer panicked on this file".into())),
                reference,
            )
        });
        drop(bytes);
        let mut reference = reference.map_err(|e| bad(&e))?;
        reference.with_padding(None);
        reference.with_truncation(None).map_err(|e| bad(&e))?;
        let own_size = reference.get_vocab(true).into_values().max().map_or(0, |id| id + 1);
        let vocab_size = own_size.max(model_vocab_size(dir));
        let cutter = cutter(&reference);
        let cuts_between_words = words::known_to_part(&reference);
        let word_probes = words::probes(FRAGMENTS, &added_tokens(&reference));
        let texts = probes(&reference);
        let (backend, fallback_reason) =
            match fast.and_then(|fast| verified(fast, &reference, &texts)) {
                Ok(fast) => (Backend::Fast(Box::new(fast)), String::new()),
                Err(reason) => (Backend::Reference(Box::new(reference)), reason),
            };
        let mut tokens =
            Tokens { backend, cutter, cuts_between_words, vocab_size, fallback_reason };
        if !texts.iter().all(|text| tokens.pieces_agree(text)) {
            tokens.cutter = None;
        }
        tokens.cuts_between_words &= word_probes.iter().all(|text| tokens.words_agree(text));
        Ok(tokens)
    }

    fn pieces_agree(&self, text: &str) -> bool {
        let mut ids = Vec::new();
        let mut start = 0;
        for end in self.cuts(text, 1).into_iter().map(|end| end as usize).chain([text.len()]) {
            match self.encode(&text[start..end], false) {
                Ok(piece) => ids.extend(piece),
                Err(_) => return false,
            }
            start = end;
        }
        self.encode(text, false).is_ok_and(|whole| whole == ids)
    }

    fn words_agree(&self, text: &str) -> bool {
        let Ok(whole) = self.encode(text, false) else { return false };
        words::cuts(text).all(|at| {
            let both = [&text[..at], &text[at..]].map(|side| self.encode(side, false));
            match both {
                [Ok(left), Ok(right)] => [left, right].concat() == whole,
                _ => false,
            }
        })
    }

    pub fn backend(&self) -> &'static str {
        match self.backend {
            Backend::Fast(_) => "fastokens",
            Backend::Reference(_) => "tokenizers",
        }
    }

    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Failure> {
        match &self.backend {
            Backend::Fast(t) => t
                .encode_with_special_tokens(text, add_special_tokens)
                .map_err(|e| Failure::internal(e.to_string())),
            Backend::Reference(t) => t
                .encode_fast(text, add_special_tokens)
                .map(|e| e.get_ids().to_vec())
                .map_err(|e| Failure::internal(e.to_string())),
        }
    }

    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, Failure> {
        match &self.backend {
            Backend::Fast(t) => {
                t.decode(ids, skip_special_tokens).map_err(|e| Failure::internal(e.to_string()))
            }
            Backend::Reference(t) => {
                t.decode(ids, skip_special_tokens).map_err(|e| Failure::internal(e.to_string()))
            }
        }
    }

    pub fn can_cut(&self) -> bool {
        self.cutter.is_some()
    }

    /// Ends of the leading pieces of `text`, each at least `min_bytes` long and ending with a special token. Encoding the pieces
    /// and the remainder one by one gives the ids of the whole, because the tokenizer itself first splits raw text, from left
    /// to right, at the leftmost-longest added tokens and never looks across one: the same search is repeated here, so every
    /// end is one of its splits, and a search that starts anew at an end finds the same later matches.
    pub fn cuts(&self, text: &str, min_bytes: usize) -> Vec<u64> {
        let mut ends = Vec::new();
        if let Some((automaton, special)) = &self.cutter {
            let mut start = 0;
            for m in automaton.find_iter(text) {
                if special[m.pattern().as_usize()] && m.end() - start >= min_bytes {
                    start = m.end();
                    ends.push(start as u64);
                }
            }
        }
        ends
    }
}

/// The model's own (padded) vocabulary, when its config.json is there: the engine takes ids up to that.
fn model_vocab_size(dir: &Path) -> u32 {
    let Ok(bytes) = std::fs::read(dir.join("config.json")) else {
        return 0;
    };
    let config: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let size = config.get("vocab_size").or_else(|| config.pointer("/text_config/vocab_size"));
    size.and_then(|s| s.as_u64()).and_then(|s| u32::try_from(s).ok()).unwrap_or(0)
}

/// None where a piece's tokens may depend on its neighbours: tokens that take in white space around them or only match whole
/// words, and pre-tokenizers or normalizers that treat the start of the text as special.
fn cutter(reference: &tokenizers::Tokenizer) -> Option<(AhoCorasick, Vec<bool>)> {
    let stages = [
        serde_json::to_string(&reference.get_pre_tokenizer()).ok()?,
        serde_json::to_string(&reference.get_normalizer()).ok()?,
    ];
    let contextual = ["\"Metaspace\"", "\"Prepend\"", "\"Strip\""];
    if contextual.iter().any(|kind| stages.iter().any(|stage| stage.contains(kind))) {
        return None;
    }
    let (mut patterns, mut special) = (Vec::new(), Vec::new());
    for token in reference.get_added_tokens_decoder().into_values() {
        if token.lstrip || token.rstrip || token.single_word {
            return None;
        }
        if !token.normalized && !token.content.is_empty() {
            patterns.push(token.content);
            special.push(token.special);
        }
    }
    let whole = found_anywhere(&patterns)?;
    special.iter_mut().zip(whole).for_each(|(special, whole)| *special &= whole);
    if !special.contains(&true) {
        return None;
    }
    let automaton =
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns).ok()?;
    Some((automaton, special))
}

/// For each pattern, whether it is found in any text that holds it: no other one contains it, is longer from the same start, or
/// begins before it and ends in it. So a stretch of a text has the cuts that the whole has there.
fn found_anywhere(patterns: &[String]) -> Option<Vec<bool>> {
    let parts = AhoCorasick::new(patterns).ok()?;
    let mut beginnings: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, pattern) in patterns.iter().enumerate() {
        for (end, _) in pattern.char_indices().skip(1) {
            beginnings.entry(&pattern[..end]).or_default().push(at);
        }
    }
    let mut whole = vec![true; patterns.len()];
    for (at, pattern) in patterns.iter().enumerate() {
        for m in parts.find_overlapping_iter(pattern).filter(|m| m.pattern().as_usize() != at) {
            whole[m.pattern().as_usize()] = false;
        }
        for (start, _) in pattern.char_indices().skip(1) {
            for begun in beginnings.get(&pattern[start..]).into_iter().flatten() {
                whole[*begun] = false;
            }
        }
    }
    Some(whole)
}

fn build_fast(bytes: &[u8]) -> Result<fastokens::Tokenizer, String> {
    let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if json.pointer("/model/type").and_then(|t| t.as_str()).is_some_and(|t| t != "BPE") {
        return Err("the model is not BPE".into());
    }
    let mut fast = fastokens::Tokenizer::from_json(json).map_err(|e| e.to_string())?;
    fast.set_padding(None);
    fast.set_truncation(None);
    Ok(fast)
}

/// `fast` if it agrees with the reference on every text, in both directions.
fn verified(
    fast: fastokens::Tokenizer,
    reference: &tokenizers::Tokenizer,
    texts: &[String],
) -> Result<fastokens::Tokenizer, String> {
    for text in texts {
        for special in [false, true] {
            let want = reference.encode_fast(text.as_str(), special).map_err(|e| e.to_string())?;
            let got = fast.encode_with_special_tokens(text, special).map_err(|e| e.to_string())?;
            if got != want.get_ids() {
                return Err(format!("encoding differs from the reference on {text:?}"));
            }
            if fast.decode(&got, special).ok() != reference.decode(&got, special).ok() {
                return Err(format!("decoding differs from the reference on {text:?}"));
            }
        }
    }
    Ok(fast)
}

const FRAGMENTS: &[&str] = &[
    "",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n ",
    "\u{a0}",
    "\u{2003}",
    "\u{200b}",
    "\u{200d}",
    "\u{feff}",
    "\u{0}",
    "\u{7f}",
    "a",
    "A",
    "Hello",
    " world",
    "the quick brown fox",
    " Jumps",
    "HTTPServer",
    "don't",
    " I'LL",
    "we've",
    "'s",
    "'S",
    "\u{2019}s",
    "naïve",
    "e\u{301}",
    "Å",
    "A\u{30a}",
    "0",
    "7",
    "42",
    "123",
    "1234",
    "1234567890",
    "3.14159",
    "-1e-9",
    "0x7fff",
    "١٢٣",
    "²³",
    "Ⅷ",
    "½",
    ".",
    ",",
    "!?",
    "...",
    "(",
    ")[",
    "{}",
    "\"",
    "'",
    "`",
    "#",
    "$",
    "%",
    "&",
    "*",
    "+=",
    "--",
    "//",
    "\\",
    "|",
    "<",
    ">",
    "</a>",
    "@",
    "^",
    "~",
    "_",
    "def f(x):\n    return x + 1\n",
    "if (a == b) {\n\treturn;\n}\n",
    "SELECT * FROM t WHERE id=3;",
    "{\"key\": [1, 2.5, null]}",
    "https://example.com/a?b=c&d=%20",
    "user@example.org",
    "日本語",
    "中文字符",
    "한국어",
    "ひらがな",
    "カタカナ",
    "،مرحبا",
    "שלום",
    "नमस्ते",
    "ไทย",
    "Ελληνικά",
    "Привет",
    "ŁÓDŹ",
    "İstanbul",
    "ﬁ",
    "ｆｕｌｌ",
    "𝒳",
    "𐍈",
    "🙂",
    "👩\u{200d}👩\u{200d}👧\u{200d}👦",
    "🇩🇪",
    "❤\u{fe0f}",
    "\u{1f8d7}",
    "\u{e000}",
    "\u{10ffff}",
    "ᄀ\u{1161}",
    "\u{300}\u{301}",
    "\u{202e}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "==========",
    "----------------",
    "                                ",
    "antidisestablishmentarianism",
    "xqzvbnmwrtplkjhgfdsa",
    "<|im_start|>",
    "<|endoftext|>",
    "<bos>",
    "</s>",
    "<s>",
    "<|",
    "|>",
    "<unk>",
    "[INST]",
];

/// In the order of their ids.
fn added_tokens(reference: &tokenizers::Tokenizer) -> Vec<String> {
    let mut added: Vec<(u32, String)> =
        reference.get_added_tokens_decoder().into_iter().map(|(id, t)| (id, t.content)).collect();
    added.sort();
    added.into_iter().map(|(_, content)| content).collect()
}

/// The fixed strings a fast tokenizer has to agree on: each fragment, and 400 mixtures of them with the model's own added tokens.
fn probes(reference: &tokenizers::Tokenizer) -> Vec<String> {
    let added = added_tokens(reference);
    let mut texts: Vec<String> = FRAGMENTS.iter().map(|f| f.to_string()).collect();
    texts.extend(added.iter().step_by(added.len() / 64 + 1).map(|t| format!("a {t} b{t}")));
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut pick = |bound: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % bound
    };
    for _ in 0..400 {
        let mut text = String::new();
        for _ in 0..2 + pick(12) {
            if pick(6) == 0 && !added.is_empty() {
                text.push_str(&added[pick(added.len())]);
            } else {
                text.push_str(FRAGMENTS[pick(FRAGMENTS.len())]);
            }
        }
        texts.push(text);
    }
    texts
}
