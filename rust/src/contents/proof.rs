//! Canned conversations: what reading a template has found is tried before it is relied on.

use super::{constants, Refusal};
use crate::chat;
use crate::template::Templates;
use serde_json::{json, Value};

/// Texts that a template might stumble over.
const TEXTS: &[&str] = &[
    "Hello",
    "x",
    "What is the capital of France?",
    "{{ messages }}",
    "{% if true %}yes{% endif %} {# no #}",
    "{\"a\": [1, 2.5, null], \"b\": \"c\\n\"}",
    "[{\"type\": \"text\", \"text\": \"t\"}]",
    "one\ntwo\n\nthree\r\n\tfour",
    "'single' \"double\" `back` \\ \\n %s {} $1",
    "<p class=\"a\">1 &lt; 2 &amp; 3</p>",
    "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>",
    "<think>\nhm\n</think>\n\nyes",
    "<|im_start|>user\nhi<|im_end|>",
    "[INST] a [/INST] </s>",
    "naïve Å e\u{301} 日本語 한국어 עברית 🙂👩\u{200d}👧 \u{1f8d7} \u{200b}z",
    "\u{301}combining first",
    "\u{0}nul\u{1}\u{7f}",
    "\u{feff}mark",
    "None",
    "true",
    "0",
    "-1e9",
    "system",
    "user",
    "assistant",
    "tool",
    "/no_think",
    "/think",
    "a  b   c\u{a0}d\u{2003}e",
    "UPPER lower Title",
];

const ROLES: &[&str] = &[
    "u", "su", "ua", "uau", "suau", "uauau", "suauau", "uct", "suctau", "ucttacta", "du", "sdu",
    "duau", "usu", "uu", "s", "a", "sua", "ur", "uru", "urctu", "p", "spap", "uctpa", "q", "sqaq",
];

/// Adds a message to `list`; its text is the next of `texts`.
fn message(kind: char, texts: &mut dyn FnMut() -> String, list: &mut Vec<Value>) {
    let call = json!([{"id": "call12345", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]);
    let part = |text: String| json!({"type": "text", "text": text});
    list.push(match kind {
        's' => json!({"role": "system", "content": texts()}),
        'd' => json!({"role": "developer", "content": texts()}),
        'a' => json!({"role": "assistant", "content": texts()}),
        'r' => json!({"role": "assistant", "content": texts(), "reasoning_content": "because"}),
        'c' => json!({"role": "assistant", "content": texts(), "tool_calls": call}),
        't' => json!({"role": "tool", "content": texts(), "tool_call_id": "call12345"}),
        'p' => json!({"role": "user", "content": [part(texts())]}),
        'q' => json!({"role": "user", "content": [part(texts()), part(texts())]}),
        _ => json!({"role": "user", "content": texts()}),
    });
}

fn options() -> [Value; 6] {
    let tools = json!([{"type": "function", "function": {"name": "f", "description": "does f",
        "parameters": {"type": "object", "properties": {"x": {"type": "number"}}}}}]);
    [
        json!({}),
        json!({"add_generation_prompt": false}),
        json!({"chat_template_kwargs": {"enable_thinking": false, "thinking": false}}),
        json!({"chat_template_kwargs": {"enable_thinking": true, "thinking": true}}),
        json!({"tools": tools}),
        json!({"tools": tools, "reasoning_effort": "low", "add_generation_prompt": false}),
    ]
}

fn render(
    templates: &Templates,
    roles: &str,
    options: &Value,
    texts: &mut dyn FnMut() -> String,
) -> Result<String, i32> {
    let mut body = options.clone();
    let mut messages = Vec::new();
    for kind in roles.chars() {
        message(kind, texts, &mut messages);
    }
    body["messages"] = Value::Array(messages);
    let body = body.to_string();
    // Noon of some day: the same in every rendering.
    chat::render(templates, body.as_bytes(), 1_800_000_000)
        .map(|rendered| rendered.text)
        .map_err(|failure| failure.code())
}

/// Stand-ins: letters and digits that neither a template nor a mark holds, nor any text here.
struct StandIns {
    stem: String,
}

const TAIL: &str = "Q9";

impl StandIns {
    fn new(sources: &[(String, bool)], marks: &[String]) -> StandIns {
        let stem = (0..)
            .map(|salt| format!("Zx{salt}q"))
            .find(|stem| !sources.iter().any(|(source, _)| source.contains(stem.as_str())))
            .unwrap_or_default();
        debug_assert!(!marks.contains(&stem));
        StandIns { stem }
    }

    fn get(&self, at: usize) -> String {
        format!("{}{at}{TAIL}", self.stem)
    }

    fn fill(&self, skeleton: &str, texts: &[String]) -> Option<String> {
        let mut pieces = skeleton.split(self.stem.as_str());
        let mut out = pieces.next().unwrap_or_default().to_string();
        for piece in pieces {
            let (at, rest) = piece.split_once(TAIL)?;
            out.push_str(texts.get(at.parse::<usize>().ok()?)?);
            out.push_str(rest);
        }
        Some(out)
    }
}

fn fits(text: &str, marks: &[String]) -> bool {
    let inner = text.trim_matches(crate::python::is_space);
    !text.is_empty() && inner == text && !marks.iter().any(|m| text.contains(m.as_str()))
}

/// The texts to try: the canned ones, the template's own constants, and what is almost a mark.
fn candidates(sources: &[(String, bool)], marks: &[String]) -> Vec<String> {
    let mut texts: Vec<String> = TEXTS.iter().map(|t| t.to_string()).collect();
    texts.push(format!("long {}end", "words and more, 123 ".repeat(200)));
    let own = sources.iter().flat_map(|(source, _)| constants(source));
    texts.extend(own.map(|t| t.trim_matches(crate::python::is_space).to_string()).take(200));
    for mark in marks {
        let cut = mark.char_indices().last().map_or(0, |(at, _)| at);
        texts.push(format!("{}x", &mark[..cut]));
        texts.push(mark[..cut].to_string());
        texts.push(mark.chars().skip(1).collect());
    }
    texts.retain(|t| fits(t, marks));
    texts
}

/// An error that says where putting texts into a skeleton gives something else than rendering them.
pub fn check(templates: &Templates, marks: &Vec<String>) -> Result<(), Refusal> {
    let sources = templates.sources()?;
    let stand_ins = StandIns::new(&sources, marks);
    if !fits(&stand_ins.get(0), marks) {
        return Err("ordinary words are marks".into());
    }
    let texts = candidates(&sources, marks);
    let mut next = 0;
    for (at_options, options) in options().into_iter().enumerate() {
        for roles in ROLES {
            let mut at = 0;
            let skeleton = render(templates, roles, &options, &mut || {
                at += 1;
                stand_ins.get(at - 1)
            });
            // Every text is tried in these.
            let long = matches!((*roles, at_options), ("suau" | "sqaq", 0) | ("suctau", 4));
            let rounds = if long { texts.len() } else { 2 };
            for round in 0..rounds {
                let mut used = Vec::new();
                let want = render(templates, roles, &options, &mut || {
                    next += 1;
                    let at = if long { round + 7 * used.len() } else { next };
                    used.push(texts[at % texts.len()].clone());
                    used[used.len() - 1].clone()
                });
                let got = match &skeleton {
                    Ok(text) => stand_ins.fill(text, &used).ok_or(-1),
                    Err(code) => Err(*code),
                };
                if got != want {
                    return Err(format!(
                        "canned conversation {roles:?} with {options} and {used:?}: the texts alter the template's"
                    ));
                }
            }
        }
    }
    Ok(())
}
