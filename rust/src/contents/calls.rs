//! Kinds of what tests, filters, methods, macros and functions give.

use super::expr::{fixed, refuse};
use super::{name_of, Kinds, Reading, Refusal, LISTS, MAPS, STRINGS};
use minijinja::machinery::ast::{Call, CallArg, CompareOpKind, Expr, Filter};
use minijinja::machinery::Span;
use minijinja::Value;

/// Whether a format of strftime gives the same within a quarter of an hour by the clock.
fn names_hours_at_most(format: &str) -> bool {
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        rest = rest[at + 1..].trim_start_matches(['-', '_', '0', '^', '#']);
        let Some(directive) = rest.chars().next() else { return false };
        if !"aAbBCdeDFgGhHIjlkmnptuUVwWxyY%".contains(directive) {
            return false;
        }
        rest = &rest[1..];
    }
    true
}

impl<'s> Reading<'s> {
    pub fn test(
        &mut self,
        at: Span,
        name: &str,
        expr: &Expr<'s>,
        args: &[CallArg<'s>],
    ) -> Result<Kinds, Refusal> {
        let op = match name {
            "eq" | "equalto" | "==" => Some(CompareOpKind::Eq),
            "ne" | "!=" => Some(CompareOpKind::Ne),
            "in" => Some(CompareOpKind::In),
            _ => None,
        };
        if let (Some(op), [CallArg::Pos(other)]) = (op, args) {
            self.compare(op, expr, other)?;
            return Ok(Kinds::SAME);
        }
        let kinds = match expr {
            // A function has the same type whatever it gives.
            Expr::Var(v) if self.is_function(v.id) && args.is_empty() => Kinds::SAME,
            _ => self.expr(expr)?,
        };
        let other = self.args(args)?;
        if kinds.is_same() && other.is_same() {
            return Ok(kinds);
        }
        match (name, args) {
            (
                "string" | "defined" | "undefined" | "none" | "mapping" | "sequence" | "iterable"
                | "number" | "integer" | "int" | "float" | "boolean" | "true" | "false",
                [],
            ) => Ok(Kinds::SAME),
            ("startingwith" | "endingwith", [CallArg::Pos(with)])
                if kinds == Kinds::PIECE && fixed(with).is_some_and(|v| v.as_str().is_some()) =>
            {
                let text = fixed(with);
                self.mark(at, text.as_ref().and_then(|v| v.as_str()).unwrap_or_default())?;
                Ok(Kinds::SAME)
            }
            _ => refuse(at, &format!("the test {name:?} of a content")),
        }
    }

    /// Kinds of all arguments together.
    pub fn args(&mut self, args: &[CallArg<'s>]) -> Result<Kinds, Refusal> {
        let mut all = Kinds::SAME;
        for arg in args {
            let (CallArg::Pos(e)
            | CallArg::Kwarg(_, e)
            | CallArg::PosSplat(e)
            | CallArg::KwargSplat(e)) = arg;
            all = all.or(self.expr(e)?);
        }
        Ok(all)
    }

    /// A filter of a block: `kinds` is what the block has printed.
    pub fn filtered(&mut self, filter: &Expr<'s>, kinds: Kinds) -> Result<Kinds, Refusal> {
        match filter {
            Expr::Filter(f) => {
                let kinds = match &f.expr {
                    Some(inner) => self.filtered(inner, kinds)?,
                    None => kinds,
                };
                self.filter(filter.span(), f, kinds)
            }
            _ => refuse(filter.span(), "an unknown filter of a block"),
        }
    }

    pub fn filter(
        &mut self,
        at: Span,
        filter: &Filter<'s>,
        kinds: Kinds,
    ) -> Result<Kinds, Refusal> {
        let args = self.args(&filter.args)?;
        let name = filter.name;
        if matches!(name, "default" | "d") {
            return Ok(kinds.or(args));
        }
        if kinds.is_same() && args.is_same() {
            return Ok(kinds);
        }
        let first = match &filter.args[..] {
            [CallArg::Pos(e), ..] => fixed(e),
            _ => None,
        };
        let first = first.as_ref().and_then(|v| v.as_str());
        let none = filter.args.is_empty();
        let plain = filter.args.iter().all(|a| matches!(a, CallArg::Pos(_)));
        let found = match name {
            _ if !args.is_same() => None,
            "trim" if kinds.within(STRINGS) && plain => {
                return self.stripped(at, kinds, none, first);
            }
            "string" | "safe" if kinds.within(STRINGS) && none => Some(kinds),
            "length" | "count" if kinds.within(STRINGS) => Some(Kinds::LENGTH),
            "length" | "count" if kinds.within(LISTS.or(MAPS)) => Some(Kinds::SAME),
            "list" if kinds.within(LISTS) => Some(kinds),
            "list" if kinds.within(MAPS) => Some(Kinds::SAME),
            "reverse" if kinds.within(LISTS) => Some(kinds),
            "first" | "last" if kinds.within(LISTS) => Some(kinds.items()),
            "join" if kinds.within(Kinds::PIECES.or(Kinds::TEXTS)) && plain => Some(Kinds::TEXT),
            "replace" | "split" if kinds == Kinds::PIECE && plain => {
                return self.searched(at, name, first);
            }
            "selectattr" | "rejectattr"
                if kinds.within(Kinds::PARTS.or(Kinds::MESSAGES))
                    && first
                        .is_some_and(|a| !a.contains('.') && !matches!(a, "content" | "text")) =>
            {
                Some(kinds)
            }
            "map" => match (&filter.args[..], first) {
                ([CallArg::Kwarg("attribute", e)], _) => {
                    let attribute = fixed(e);
                    let attribute = attribute.as_ref().and_then(|v| v.as_str());
                    match attribute {
                        Some("content") if kinds == Kinds::MESSAGES && !self.as_parts => {
                            Some(Kinds::PIECES)
                        }
                        Some("text") if kinds == Kinds::PARTS => Some(Kinds::PIECES),
                        Some(a)
                            if kinds.within(Kinds::PARTS.or(Kinds::MESSAGES))
                                && !a.contains('.')
                                && !matches!(a, "content" | "text") =>
                        {
                            Some(Kinds::SAME)
                        }
                        _ => None,
                    }
                }
                ([_], Some("trim")) if kinds.within(Kinds::PIECES.or(Kinds::TEXTS)) => Some(kinds),
                _ => None,
            },
            _ => None,
        };
        match found {
            Some(kinds) => Ok(kinds),
            None => refuse(at, &format!("the filter {name:?} of a content")),
        }
    }

    /// A text without the given characters at its ends, or without white space: a text has none of them there.
    fn stripped(
        &mut self,
        at: Span,
        kinds: Kinds,
        space: bool,
        chars: Option<&str>,
    ) -> Result<Kinds, Refusal> {
        match chars {
            _ if space => Ok(kinds),
            Some(chars) => {
                for c in chars.chars().filter(|c| !crate::python::is_space(*c)) {
                    self.mark(at, &c.to_string())?;
                }
                Ok(kinds)
            }
            None => refuse(at, "computed characters are stripped from a content"),
        }
    }

    /// An operation that looks for `what` in a piece, where it is not.
    fn searched(
        &mut self,
        at: Span,
        operation: &str,
        what: Option<&str>,
    ) -> Result<Kinds, Refusal> {
        match what {
            Some(text) if !text.is_empty() => self.mark(at, text)?,
            _ => return refuse(at, &format!("{operation} of a content by something computed")),
        }
        Ok(match operation {
            "replace" | "removeprefix" | "removesuffix" => Kinds::PIECE,
            "split" | "rsplit" | "partition" | "rpartition" => Kinds::PIECES,
            _ => Kinds::SAME,
        })
    }

    pub fn call(&mut self, at: Span, call: &Call<'s>) -> Result<Kinds, Refusal> {
        if let Expr::GetAttr(a) = &call.expr {
            let base = self.expr(&a.expr)?;
            return self.method(at, base, a.name, &call.args);
        }
        let Some(name) = name_of(&call.expr) else {
            self.same(&call.expr, "something made of contents is called")?;
            return match self.args(&call.args)?.is_same() {
                true => Ok(Kinds::SAME),
                false => refuse(at, "a content is passed to something computed"),
            };
        };
        if self.callables.contains_key(name) {
            return self.macro_call(at, name, &call.args);
        }
        match name {
            "namespace" | "dict" => {
                for arg in &call.args {
                    match arg {
                        CallArg::Kwarg(key, e) => {
                            let kinds = self.expr(e)?;
                            self.assign_field(key, kinds);
                        }
                        CallArg::Pos(e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e) => {
                            self.same(e, "a namespace made of contents")?;
                        }
                    }
                }
                return Ok(Kinds::OBJECT);
            }
            // Ends the rendering, in both runs.
            "raise_exception" => return self.args(&call.args).map(|_| Kinds::SAME),
            // What is rendered once is taken for what is rendered a little later.
            "strftime_now" => {
                let format = match &call.args[..] {
                    [CallArg::Pos(e)] => fixed(e),
                    _ => None,
                };
                return match format.as_ref().and_then(|f| f.as_str()) {
                    Some(format) if names_hours_at_most(format) => Ok(Kinds::SAME),
                    _ => refuse(at, "the time is printed"),
                };
            }
            "debug" => return refuse(at, "debug()"),
            _ => {}
        }
        let known = self.variables.get(name).is_none_or(|k| k.within(Kinds::OBJECT));
        if self.args(&call.args)?.is_same() && known {
            Ok(Kinds::SAME)
        } else {
            refuse(at, &format!("a content is passed to {name}()"))
        }
    }

    fn macro_call(
        &mut self,
        at: Span,
        name: &'s str,
        args: &[CallArg<'s>],
    ) -> Result<Kinds, Refusal> {
        let params = self.callables.get(name).cloned().unwrap_or_default();
        for (at_arg, arg) in args.iter().enumerate() {
            match arg {
                CallArg::Pos(e) => {
                    let kinds = self.expr(e)?;
                    for params in &params {
                        match params.get(at_arg) {
                            Some(param) => self.assign(param, kinds),
                            None if kinds.is_same() => {}
                            None => {
                                return refuse(at, "a content for a parameter that is not there")
                            }
                        }
                    }
                }
                CallArg::Kwarg(key, e) => {
                    let kinds = self.expr(e)?;
                    for param in params.iter().flatten().filter(|p| *p == key) {
                        self.assign(param, kinds);
                    }
                }
                CallArg::PosSplat(e) | CallArg::KwargSplat(e) => {
                    self.same(e, "a content among unpacked arguments")?;
                }
            }
        }
        Ok(self.results.get(name).copied().unwrap_or_default())
    }

    fn method(
        &mut self,
        at: Span,
        base: Kinds,
        name: &str,
        args: &[CallArg<'s>],
    ) -> Result<Kinds, Refusal> {
        let (key, rest) = args.split_at(args.len().min(1));
        let (key, default) = (self.args(key)?, self.args(rest)?);
        let given = key.or(default);
        let plain = args.iter().all(|a| matches!(a, CallArg::Pos(_)));
        let first = match args {
            [CallArg::Pos(e), ..] => fixed(e),
            _ => None,
        };
        let text = first.as_ref().and_then(|v| v.as_str());
        if base.is_same() && given.is_same() {
            return Ok(base);
        }
        let refused = || refuse(at, &format!("the method {name:?} of a content or with one"));
        if base.is_same() {
            // ", ".join(contents)
            let joined = name == "join" && plain && given.within(Kinds::PIECES.or(Kinds::TEXTS));
            return if joined { Ok(Kinds::TEXT) } else { refused() };
        }
        if base.within(MAPS.or(Kinds::OBJECT)) {
            return match name {
                "get" if plain => {
                    if !key.is_same() {
                        return refuse(at, "a content is a key");
                    }
                    Ok(self.member(at, base, first.as_ref())?.or(default))
                }
                "keys" if base.within(MAPS) => Ok(Kinds::SAME),
                "cycle" | "changed" if base == Kinds::OBJECT && given.is_same() => Ok(Kinds::SAME),
                _ => refused(),
            };
        }
        if !given.is_same() || !plain || !base.within(STRINGS) {
            return refused();
        }
        match name {
            "strip" | "lstrip" | "rstrip" => self.stripped(at, base, args.is_empty(), text),
            _ if base != Kinds::PIECE => refused(),
            "startswith" | "endswith" => {
                let Some(with) = &first else { return refused() };
                let one = std::slice::from_ref(with);
                let many: Vec<Value> = with.try_iter().into_iter().flatten().collect();
                for text in if text.is_some() { one } else { &many } {
                    match text.as_str() {
                        Some(text) => self.mark(at, text)?,
                        None => return refused(),
                    }
                }
                Ok(Kinds::SAME)
            }
            "split" | "rsplit" | "partition" | "rpartition" | "replace" | "removeprefix"
            | "removesuffix" | "find" | "rfind" | "count" => self.searched(at, name, text),
            _ => refused(),
        }
    }
}
