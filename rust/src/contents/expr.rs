//! Kinds of expressions: which operations commute with putting real texts in place of stand-ins.

use super::{Kinds, Reading, Refusal, LISTS, MAPS, STRINGS};
use minijinja::machinery::ast::{BinOpKind, CompareOpKind, Expr, Stmt, UnaryOpKind};
use minijinja::machinery::Span;
use minijinja::value::ValueKind;
use minijinja::Value;
use std::collections::BTreeSet;

pub fn refuse<T>(at: Span, what: &str) -> Result<T, Refusal> {
    Err(format!("line {}: {what}", at.start_line))
}

/// A fixed string, also one put together from others.
pub fn fixed(expr: &Expr) -> Option<Value> {
    expr.as_const()
}

/// `var.a["b"][0]` as text, for expressions that are looked up and not computed.
fn path(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Var(v) => Some(v.id.to_string()),
        Expr::GetAttr(a) => Some(format!("{}.{}", path(&a.expr)?, a.name)),
        Expr::GetItem(i) => {
            let key = fixed(&i.subscript_expr)?;
            match key.as_str() {
                Some(name) if name.contains(['.', '[']) => None,
                Some(name) => Some(format!("{}.{name}", path(&i.expr)?)),
                None => Some(format!("{}[{}]", path(&i.expr)?, key.as_i64()?)),
            }
        }
        _ => None,
    }
}

/// Names that statements of `body` give a value to.
pub fn assigned<'s>(body: &[Stmt<'s>], names: &mut BTreeSet<&'s str>) {
    fn target<'s>(expr: &Expr<'s>, names: &mut BTreeSet<&'s str>) {
        match expr {
            Expr::Var(v) => drop(names.insert(v.id)),
            Expr::List(l) => l.items.iter().for_each(|e| target(e, names)),
            Expr::Tuple(t) => t.items.iter().for_each(|e| target(e, names)),
            Expr::GetAttr(a) => target(&a.expr, names),
            _ => {}
        }
    }
    for stmt in body {
        match stmt {
            Stmt::ForLoop(f) => {
                names.insert("loop");
                target(&f.target, names);
            }
            Stmt::WithBlock(w) => w.assignments.iter().for_each(|(t, _)| target(t, names)),
            Stmt::Set(s) => target(&s.target, names),
            Stmt::SetBlock(s) => target(&s.target, names),
            Stmt::Macro(m) => m.args.iter().for_each(|a| target(a, names)),
            Stmt::CallBlock(c) => c.macro_decl.args.iter().for_each(|a| target(a, names)),
            _ => {}
        }
        for inner in super::bodies(stmt) {
            assigned(inner, names);
        }
    }
}

impl<'s> Reading<'s> {
    /// Texts that hold no line of `text` hold no `text`, not even where the engine has joined several with line ends.
    pub fn mark(&mut self, at: Span, text: &str) -> Result<(), Refusal> {
        if text.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> =
            text.split('\n').filter(|l| !l.is_empty()).map(str::to_string).collect();
        if lines.is_empty() {
            return refuse(at, "line ends are looked for in a content");
        }
        self.marks.extend(lines);
        Ok(())
    }

    /// Keeps of what `condition` is about the kinds for which it comes out as `holds`.
    pub fn learn(&mut self, condition: &Expr<'s>, holds: bool) {
        let left = match condition {
            Expr::UnaryOp(u) if matches!(u.op, UnaryOpKind::Not) => {
                return self.learn(&u.expr, !holds)
            }
            Expr::BinOp(b)
                if matches!((b.op, holds), (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false)) =>
            {
                self.learn(&b.left, holds);
                return self.learn(&b.right, holds);
            }
            Expr::BinOp(b) => {
                let equal = match b.op {
                    BinOpKind::Eq => holds,
                    BinOpKind::Ne => !holds,
                    _ => return,
                };
                if !equal || fixed(&b.right).is_none() {
                    return;
                }
                (&b.left, Kinds::ALL.without(STRINGS))
            }
            Expr::Test(t) => {
                let kinds = match (t.name, holds) {
                    ("string", true) => STRINGS,
                    ("string", false) => Kinds::ALL.without(STRINGS),
                    ("mapping", true) => MAPS.or(Kinds::OBJECT),
                    ("mapping", false) => Kinds::ALL.without(MAPS),
                    ("none" | "undefined", true) | ("defined", false) => Kinds::SAME,
                    ("iterable" | "sequence", false) => Kinds::OBJECT.or(Kinds::LENGTH),
                    _ => return,
                };
                (&t.expr, kinds)
            }
            _ if holds => return,
            looked_up => (looked_up, Kinds::OBJECT),
        };
        let (expr, kinds) = left;
        if let Some(path) = path(expr) {
            let base = path.split(['.', '[']).next().unwrap_or_default();
            let object = self.variables.get(base).is_some_and(|k| k.any(Kinds::OBJECT));
            if !object {
                self.known.push((path, kinds));
            }
        }
    }

    fn under(
        &mut self,
        condition: &Expr<'s>,
        holds: bool,
        expr: &Expr<'s>,
    ) -> Result<Kinds, Refusal> {
        let depth = self.known.len();
        self.learn(condition, holds);
        let kinds = self.expr(expr);
        self.known.truncate(depth);
        kinds
    }

    pub fn expr(&mut self, expr: &Expr<'s>) -> Result<Kinds, Refusal> {
        let kinds = self.plain(expr)?;
        if kinds.is_same() || self.known.is_empty() {
            return Ok(kinds);
        }
        let Some(path) = path(expr) else { return Ok(kinds) };
        let known = self.known.iter().filter(|(p, _)| *p == path);
        Ok(known.fold(kinds, |kinds, (_, left)| kinds.and(*left)))
    }

    fn plain(&mut self, expr: &Expr<'s>) -> Result<Kinds, Refusal> {
        match expr {
            Expr::Const(_) => Ok(Kinds::SAME),
            Expr::Var(v) if self.is_function(v.id) => {
                refuse(expr.span(), "a function is used as a value")
            }
            Expr::Var(v) => Ok(self.variables.get(v.id).copied().unwrap_or_default()),
            Expr::Slice(s) => {
                let base = self.expr(&s.expr)?;
                for bound in [&s.start, &s.stop, &s.step].into_iter().flatten() {
                    self.same(bound, "a slice depends on a content")?;
                }
                if base.within(LISTS) {
                    Ok(base)
                } else {
                    refuse(expr.span(), "a content is sliced")
                }
            }
            Expr::UnaryOp(u) => {
                let kinds = self.expr(&u.expr)?;
                match u.op {
                    UnaryOpKind::Not => Ok(Kinds::SAME),
                    UnaryOpKind::Neg if kinds.is_same() => Ok(kinds),
                    UnaryOpKind::Neg => refuse(expr.span(), "arithmetic on a content"),
                }
            }
            Expr::BinOp(b) => self.binary(expr.span(), b.op, &b.left, &b.right),
            Expr::Compare(c) => {
                let mut left = &c.expr;
                for op in &c.ops {
                    self.compare(op.op, left, &op.expr)?;
                    left = &op.expr;
                }
                Ok(Kinds::SAME)
            }
            Expr::IfExpr(i) => {
                self.expr(&i.test_expr)?;
                let taken = self.under(&i.test_expr, true, &i.true_expr)?;
                match &i.false_expr {
                    Some(other) => Ok(taken.or(self.under(&i.test_expr, false, other)?)),
                    None => Ok(taken),
                }
            }
            Expr::Filter(f) => {
                let kinds = match &f.expr {
                    Some(e) => self.expr(e)?,
                    None => return refuse(expr.span(), "a filter of nothing"),
                };
                self.filter(expr.span(), f, kinds)
            }
            Expr::Test(t) => self.test(expr.span(), t.name, &t.expr, &t.args),
            Expr::GetAttr(a) => {
                let base = self.expr(&a.expr)?;
                self.member(expr.span(), base, Some(&Value::from(a.name)))
            }
            Expr::GetItem(i) => {
                let base = self.expr(&i.expr)?;
                self.same(&i.subscript_expr, "a subscript depends on a content")?;
                self.member(expr.span(), base, fixed(&i.subscript_expr).as_ref())
            }
            Expr::Call(c) => self.call(expr.span(), c),
            Expr::List(l) => self.list(expr.span(), &l.items),
            Expr::Tuple(t) => self.list(expr.span(), &t.items),
            Expr::Map(m) => {
                let mut all = Kinds::SAME;
                for (key, value) in m.keys.iter().zip(&m.values) {
                    self.same(key, "a content is a key")?;
                    let kinds = self.expr(value)?;
                    if kinds.is_same() {
                        continue;
                    }
                    let Some(name) = fixed(key).and_then(|k| k.as_str().map(str::to_string)) else {
                        return refuse(expr.span(), "a content in a map by a computed key");
                    };
                    self.assign_field(&name, kinds);
                    all = Kinds::OBJECT;
                }
                Ok(all)
            }
        }
    }

    pub fn is_function(&self, name: &str) -> bool {
        self.callables.contains_key(name) || matches!(name, "strftime_now" | "debug")
    }

    pub fn same(&mut self, expr: &Expr<'s>, what: &str) -> Result<(), Refusal> {
        if self.expr(expr)?.is_same() {
            Ok(())
        } else {
            refuse(expr.span(), what)
        }
    }

    fn list(&mut self, at: Span, items: &[Expr<'s>]) -> Result<Kinds, Refusal> {
        let mut all = Kinds::SAME;
        for item in items {
            let kinds = self.expr(item)?;
            for (one, many) in [
                (Kinds::PIECE, Kinds::PIECES),
                (Kinds::TEXT, Kinds::TEXTS),
                (Kinds::PART, Kinds::PARTS),
                (Kinds::MESSAGE, Kinds::MESSAGES),
            ] {
                if kinds.any(one) {
                    all = all.or(many);
                }
            }
            if !kinds.within(STRINGS.or(MAPS)) {
                return refuse(at, "a list of things made of contents");
            }
        }
        Ok(all)
    }

    /// `base[key]`, where the key is the same in both runs; None for one that is computed.
    pub fn member(&mut self, at: Span, base: Kinds, key: Option<&Value>) -> Result<Kinds, Refusal> {
        let name = key.map(|k| k.as_str());
        let mut all = base.items();
        if base.any(STRINGS) && !matches!(name, Some(Some(_))) {
            return refuse(at, "a character of a content");
        }
        if base.any(Kinds::LENGTH) {
            return refuse(at, "the length of a content");
        }
        if base.any(Kinds::MESSAGE) && name.is_none_or(|n| n == Some("content")) {
            let parts = if self.as_parts { Kinds::PARTS } else { Kinds::SAME };
            all = all.or(Kinds::PIECE).or(parts);
        }
        if base.any(Kinds::PART) && name.is_none_or(|n| n == Some("text")) {
            all = all.or(Kinds::PIECE);
        }
        if base.any(Kinds::OBJECT) {
            let Some(name) = name.flatten() else {
                return refuse(at, "a computed member of an object made of contents");
            };
            all = all.or(self.fields.get(name).copied().unwrap_or_default());
        }
        Ok(all)
    }

    fn binary(
        &mut self,
        at: Span,
        op: BinOpKind,
        left: &Expr<'s>,
        right: &Expr<'s>,
    ) -> Result<Kinds, Refusal> {
        let compared = match op {
            BinOpKind::Eq => Some(CompareOpKind::Eq),
            BinOpKind::Ne => Some(CompareOpKind::Ne),
            BinOpKind::Lt => Some(CompareOpKind::Lt),
            BinOpKind::Lte => Some(CompareOpKind::Lte),
            BinOpKind::Gt => Some(CompareOpKind::Gt),
            BinOpKind::Gte => Some(CompareOpKind::Gte),
            BinOpKind::In => Some(CompareOpKind::In),
            _ => None,
        };
        if let Some(op) = compared {
            self.compare(op, left, right)?;
            return Ok(Kinds::SAME);
        }
        let l = self.expr(left)?;
        match op {
            // A stand-in is as true as its text; what is false here is no text.
            BinOpKind::ScAnd => return Ok(l.and(Kinds::OBJECT).or(self.under(left, true, right)?)),
            BinOpKind::ScOr => return Ok(l.or(self.under(left, false, right)?)),
            _ => {}
        }
        let both = l.or(self.expr(right)?);
        match op {
            _ if both.is_same() => Ok(both),
            BinOpKind::Concat if both.within(STRINGS) => Ok(Kinds::TEXT),
            BinOpKind::Add if both.within(STRINGS.or(LISTS)) => {
                let text = if both.any(STRINGS) { Kinds::TEXT } else { Kinds::SAME };
                Ok(both.and(LISTS).or(text))
            }
            _ => refuse(at, "arithmetic on a content"),
        }
    }

    /// Whether the outcome is the same in both runs.
    pub fn compare(
        &mut self,
        op: CompareOpKind,
        left: &Expr<'s>,
        right: &Expr<'s>,
    ) -> Result<(), Refusal> {
        let (l, r) = (self.expr(left)?, self.expr(right)?);
        if l.is_same() && r.is_same() {
            return Ok(());
        }
        match op {
            CompareOpKind::Eq | CompareOpKind::Ne => match (fixed(left), fixed(right)) {
                (_, Some(value)) => self.equal(left.span(), l, &value),
                (Some(value), _) => self.equal(right.span(), r, &value),
                _ => refuse(left.span(), "a content is compared with something computed"),
            },
            CompareOpKind::In | CompareOpKind::NotIn if l.is_same() => {
                self.contained(left, right, r)
            }
            CompareOpKind::In | CompareOpKind::NotIn => {
                let list = fixed(right).filter(|v| v.kind() == ValueKind::Seq);
                let items = list.and_then(|v| v.try_iter().ok().map(|i| i.collect::<Vec<_>>()));
                match items {
                    Some(items) => {
                        items.iter().try_for_each(|item| self.equal(left.span(), l, item))
                    }
                    None => refuse(left.span(), "a content is looked for in something"),
                }
            }
            // The length of what is no empty text is at least 1.
            CompareOpKind::Gt | CompareOpKind::Lte if r.is_same() => {
                self.length(left.span(), l, right, 0)
            }
            CompareOpKind::Gte | CompareOpKind::Lt if r.is_same() => {
                self.length(left.span(), l, right, 1)
            }
            _ => refuse(left.span(), "contents are ordered"),
        }
    }

    fn length(&self, at: Span, kinds: Kinds, bound: &Expr, most: i64) -> Result<(), Refusal> {
        let bound = fixed(bound).filter(|v| v.is_integer()).and_then(|v| v.as_i64());
        if kinds == Kinds::LENGTH && bound.is_some_and(|b| b <= most) {
            return Ok(());
        }
        refuse(at, "contents are ordered, or their lengths are")
    }

    /// `kinds == value`
    fn equal(&mut self, at: Span, kinds: Kinds, value: &Value) -> Result<(), Refusal> {
        if kinds.any(Kinds::PIECE) {
            if let Some(text) = value.as_str() {
                self.mark(at, text)?;
            }
        }
        if kinds.any(Kinds::TEXT) && value.as_str().is_some_and(|s| !s.is_empty()) {
            return refuse(at, "a text made of contents is compared");
        }
        if kinds.any(Kinds::LENGTH) && value.as_i64() != Some(0) {
            return refuse(at, "the length of a content is compared");
        }
        let simple = matches!(
            value.kind(),
            ValueKind::String | ValueKind::None | ValueKind::Bool | ValueKind::Number
        );
        let empty = value.len() == Some(0);
        if kinds.any(LISTS.or(MAPS).or(Kinds::OBJECT)) && !(simple || empty) {
            return refuse(at, "something made of contents is compared");
        }
        Ok(())
    }

    /// `item in kinds`, where the item is the same in both runs.
    fn contained(&mut self, item: &Expr, holder: &Expr, kinds: Kinds) -> Result<(), Refusal> {
        let fixed = fixed(item);
        let text = fixed.as_ref().and_then(|v| v.as_str());
        if kinds.any(Kinds::PIECE.or(Kinds::PIECES)) {
            match text {
                Some(text) => self.mark(item.span(), text)?,
                None => {
                    return refuse(item.span(), "something computed is looked for in a content")
                }
            }
        }
        if kinds.any(Kinds::TEXT) && text != Some("") {
            return refuse(holder.span(), "a text made of contents is searched");
        }
        let strangers = Kinds::TEXTS.or(Kinds::LENGTH);
        if kinds.any(strangers) || (kinds.any(Kinds::PARTS.or(Kinds::MESSAGES)) && text.is_none()) {
            return refuse(holder.span(), "things made of contents are searched");
        }
        Ok(())
    }
}
