//! A model's chat templates, compiled once, and the content format the engine would choose for them.

use crate::json::Json;
use crate::{python, Failure};
use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value};
use std::path::Path;

/// Marks the message of `raise_exception`, so that a refusal is told from a failure of ours.
pub const REFUSED: &str = "\u{1}refused\u{1}";

pub struct Templates {
    env: Environment<'static>,
    pub source: String,
    tool_source: Option<String>,
    error: Option<String>,
    prints_dates: bool,
    mentions_developer: [bool; 2],
    openai: bool,
    tool_openai: bool,
}

pub fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default()
}

/// transformers' {% generation %} only marks a span: it becomes an `if` that is always true.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let end = tag.find("%}").unwrap_or(tag.len());
        let inner = &tag[..end];
        match inner.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace()) {
            "generation" => out.push_str(&inner.replace("generation", "if true")),
            "endgeneration" => out.push_str(&inner.replace("endgeneration", "endif")),
            _ => out.push_str(inner),
        }
        rest = &tag[end..];
    }
    out.push_str(rest);
    out
}

fn read_json(path: &Path) -> Result<Option<Json>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => crate::json::parse(&bytes)
            .map(Some)
            .map_err(|f| Failure { message: format!("{}: {}", path.display(), f.message), ..f }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::invalid(format!("{}: {e}", path.display()))),
    }
}

fn read_text(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::invalid(format!("{}: {e}", path.display()))),
    }
}

impl Templates {
    pub fn load(dir: &Path) -> Result<Templates, Failure> {
        let config = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or(Json::Null);
        let mut special_tokens = Vec::new();
        if let Json::Obj(members) = &config {
            for (key, value) in members {
                let text = value.as_str().or_else(|| value.get("content").and_then(Json::as_str));
                if let (true, Some(text)) = (key.ends_with("_token"), text) {
                    special_tokens.push((key.clone(), text.to_string()));
                }
            }
        }
        let (mut source, mut tool_source) = (None, None);
        match config.get("chat_template") {
            Some(Json::Str(text)) => source = Some(text.clone()),
            Some(Json::Arr(named)) => {
                for entry in named {
                    let text = entry.get("template").and_then(Json::as_str).map(str::to_string);
                    match entry.get("name").and_then(Json::as_str) {
                        Some("default") => source = text,
                        Some("tool_use") => tool_source = text,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if let Some(text) = read_json(&dir.join("chat_template.json"))?
            .as_ref()
            .and_then(|j| j.get("chat_template"))
            .and_then(Json::as_str)
        {
            source = Some(text.to_string());
        }
        if let Some(text) = read_text(&dir.join("chat_template.jinja"))? {
            source = Some(text);
        }
        if let Some(text) = read_text(&dir.join("additional_chat_templates/tool_use.jinja"))? {
            tool_source = Some(text);
        }
        Ok(Templates::new(source.unwrap_or_default(), tool_source, special_tokens))
    }

    fn new(
        source: String,
        tool_source: Option<String>,
        special_tokens: Vec<(String, String)>,
    ) -> Templates {
        let mut env = Environment::new();
        env.set_syntax(syntax());
        python::install(&mut env);
        let mut error = None;
        for (name, text) in [("chat", Some(&source)), ("tool_use", tool_source.as_ref())] {
            if let Some(text) = text {
                if let Err(e) = env.add_template_owned(name, without_generation_tags(text)) {
                    error = Some(format!("{e:#}"));
                }
            }
        }
        for (name, text) in special_tokens {
            env.add_global(name, Value::from(text));
        }
        let both = || [Some(&source), tool_source.as_ref()].into_iter().flatten();
        let prints_dates = both().any(|text| text.contains("strftime_now"));
        let with_tools = tool_source.as_ref().unwrap_or(&source);
        let mentions_developer = [&source, with_tools].map(|text| text.contains("developer"));
        let openai = iterates_content(&source);
        let tool_openai = tool_source.as_ref().map_or(openai, |t| iterates_content(t));
        Templates {
            env,
            source,
            tool_source,
            error,
            prints_dates,
            mentions_developer,
            openai,
            tool_openai,
        }
    }

    /// Whether messages reach this template as lists of parts ("openai") or as strings.
    pub fn wants_parts(&self, tools: bool) -> bool {
        if tools {
            self.tool_openai
        } else {
            self.openai
        }
    }

    /// The templates as they are compiled, each with whether it gets lists of parts; why there are none.
    pub fn sources(&self) -> Result<Vec<(String, bool)>, String> {
        if let Some(error) = &self.error {
            return Err(format!("the template does not compile here: {error}"));
        }
        if self.source.is_empty() && self.tool_source.is_none() {
            return Err("the model has no chat template".into());
        }
        let tool = self.tool_source.iter().map(|t| (t, self.tool_openai));
        let all = std::iter::once((&self.source, self.openai)).chain(tool);
        Ok(all.map(|(text, parts)| (without_generation_tags(text), parts)).collect())
    }

    pub fn mentions_developer(&self, tools: bool) -> bool {
        self.mentions_developer[usize::from(tools)]
    }

    /// `context` is an object; `now` seconds since 1970 for strftime_now, negative for the clock.
    pub fn render(&self, context: &Json, now: i64) -> Result<String, Failure> {
        let Json::Obj(members) = context else {
            return Err(Failure::invalid("the template context is not an object".into()));
        };
        if self.source.is_empty() && self.tool_source.is_none() {
            return Err(Failure::unsupported("the model has no chat template".into()));
        }
        if let Some(error) = &self.error {
            return Err(Failure::unsupported(format!(
                "the chat template does not compile here: {error}"
            )));
        }
        let tools = context.get("tools").is_some();
        let name = if tools && self.tool_source.is_some() { "tool_use" } else { "chat" };
        let template =
            self.env.get_template(name).map_err(|e| Failure::unsupported(format!("{e:#}")))?;
        let clock = self.prints_dates.then(|| {
            ("strftime_now", Value::from_function(move |format: &str| strftime(format, now)))
        });
        let given = members.iter().map(|(k, v)| (k.as_str(), v.to_value()));
        template.render(Value::from_pairs(clock.into_iter().chain(given))).map_err(|e| {
            let text = format!("{e:#}");
            match e.detail().and_then(|d| d.strip_prefix(REFUSED)) {
                Some(message) => Failure::invalid(message.to_string()),
                None => Failure::unsupported(format!(
                    "the chat template cannot be rendered here: {text}"
                )),
            }
        })
    }
}

fn strftime(format: &str, now: i64) -> Result<String, minijinja::Error> {
    let failed =
        || minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, "strftime_now failed");
    let format = std::ffi::CString::new(format).map_err(|_| failed())?;
    let mut buffer = [0u8; 512];
    // SAFETY: plain libc calls on local storage; strftime writes at most buffer.len() bytes and returns how many.
    let size = unsafe {
        let seconds: libc::time_t = if now < 0 { libc::time(std::ptr::null_mut()) } else { now };
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut parts).is_null() {
            return Err(failed());
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &parts)
    };
    String::from_utf8(buffer[..size].to_vec()).map_err(|_| failed())
}

// The engine's rule for the content format: "openai" if some loop runs over a message's content, "string" otherwise, where a
// message is the target of a loop over `messages` (or over something assigned from it).

/// `for` targets and `set` targets with what they are made of, in source order.
struct Bindings<'t, 's> {
    sets: Vec<(&'s str, &'t Expr<'s>)>,
    loops: Vec<(Option<&'s str>, &'t Expr<'s>)>,
}

fn name_of<'s>(expr: &Expr<'s>) -> Option<&'s str> {
    match expr {
        Expr::Var(v) => Some(v.id),
        _ => None,
    }
}

fn collect<'t, 's>(body: &'t [Stmt<'s>], found: &mut Bindings<'t, 's>) {
    for stmt in body {
        match stmt {
            Stmt::Template(t) => collect(&t.children, found),
            Stmt::ForLoop(f) => {
                found.loops.push((name_of(&f.target), &f.iter));
                collect(&f.body, found);
                collect(&f.else_body, found);
            }
            Stmt::IfCond(i) => {
                collect(&i.true_body, found);
                collect(&i.false_body, found);
            }
            Stmt::WithBlock(w) => {
                for (target, value) in &w.assignments {
                    found.sets.extend(name_of(target).map(|n| (n, value)));
                }
                collect(&w.body, found);
            }
            Stmt::Set(s) => found.sets.extend(name_of(&s.target).map(|n| (n, &s.expr))),
            Stmt::SetBlock(s) => collect(&s.body, found),
            Stmt::AutoEscape(a) => collect(&a.body, found),
            Stmt::FilterBlock(f) => collect(&f.body, found),
            Stmt::Macro(m) => collect(&m.body, found),
            Stmt::CallBlock(c) => collect(&c.macro_decl.body, found),
            _ => {}
        }
    }
}

/// `var`, or `var.key` / `var["key"]`, possibly filtered, tested or sliced.
fn is_access(expr: &Expr, var: &str, key: Option<&str>) -> bool {
    match expr {
        Expr::Filter(f) => f.expr.as_ref().is_some_and(|e| is_access(e, var, key)),
        Expr::Test(t) => is_access(&t.expr, var, key),
        Expr::Slice(s) => is_access(&s.expr, var, key),
        Expr::GetAttr(a) => key == Some(a.name) && name_of(&a.expr) == Some(var),
        Expr::GetItem(i) => {
            key.is_some_and(
                |k| matches!(&i.subscript_expr, Expr::Const(c) if c.value.as_str() == Some(k)),
            ) && name_of(&i.expr) == Some(var)
        }
        _ => key.is_none() && name_of(expr) == Some(var),
    }
}

fn iterates_content(source: &str) -> bool {
    let text = without_generation_tags(source);
    let Ok(Stmt::Template(root)) = minijinja::machinery::parse(&text, "chat", syntax()) else {
        return false;
    };
    let mut found = Bindings { sets: Vec::new(), loops: Vec::new() };
    collect(&root.children, &mut found);
    let close = |mut names: Vec<String>| {
        let mut next = 0;
        while next < names.len() {
            for (target, value) in &found.sets {
                if is_access(value, &names[next], None) && !names.iter().any(|n| n == target) {
                    names.push(target.to_string());
                }
            }
            next += 1;
        }
        names
    };
    let lists = close(vec!["messages".into()]);
    let over = |expr: &Expr, names: &[String], key| names.iter().any(|n| is_access(expr, n, key));
    let items = found
        .loops
        .iter()
        .filter(|(_, iter)| over(iter, &lists, None))
        .filter_map(|(target, _)| *target);
    let messages = close(items.map(str::to_string).collect());
    let mut contents: Vec<String> = found
        .sets
        .iter()
        .filter(|(_, value)| over(value, &messages, Some("content")))
        .map(|(n, _)| n.to_string())
        .collect();
    if !messages.is_empty() {
        contents.push("content".into());
    }
    found
        .loops
        .iter()
        .any(|(_, iter)| over(iter, &messages, Some("content")) || over(iter, &contents, None))
}
