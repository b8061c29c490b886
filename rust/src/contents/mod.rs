//! What a chat template does with the texts of messages, found by reading its syntax tree.
//!
//! Two conversations are thought of that differ only in the texts of some messages: stand-ins in one, real texts in the other. A
//! text is neither empty nor begins or ends with white space, and holds none of the marks found here. Every expression gets the
//! set of kinds its value may have in both runs at once, the empty set meaning the same value in both. What is allowed commutes
//! with putting the real texts in place of the stand-ins, and no condition ever differs; anything else is refused. Variables have
//! one set of kinds for the whole template, found as a fixed point.

mod calls;
mod expr;
mod proof;

use crate::template::{syntax, Templates};
use expr::{assigned, refuse};
use minijinja::machinery::ast::{Expr, Macro, Stmt};
use minijinja::machinery::Span;
use std::collections::{BTreeMap, BTreeSet};

/// Why a template is not opaque: the construct and its line.
type Refusal = String;

/// Kinds a value may have beside "the same in both runs".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Kinds(u16);

impl Kinds {
    pub const SAME: Kinds = Kinds(0);
    /// The text of one message or part, stand-in or real.
    pub const PIECE: Kinds = Kinds(1);
    /// Fixed strings and pieces, joined.
    pub const TEXT: Kinds = Kinds(2);
    pub const PIECES: Kinds = Kinds(4);
    pub const TEXTS: Kinds = Kinds(8);
    /// A message's content as a list of parts.
    pub const PARTS: Kinds = Kinds(16);
    pub const PART: Kinds = Kinds(32);
    pub const MESSAGE: Kinds = Kinds(64);
    pub const MESSAGES: Kinds = Kinds(128);
    /// A namespace, loop or map made by the template: see `Reading::fields`.
    pub const OBJECT: Kinds = Kinds(256);
    /// The length of a text.
    pub const LENGTH: Kinds = Kinds(512);
    const ALL: Kinds = Kinds(1023);

    pub const fn or(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }
    pub const fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }
    pub const fn without(self, other: Kinds) -> Kinds {
        Kinds(self.0 & !other.0)
    }
    pub fn is_same(self) -> bool {
        self == Kinds::SAME
    }
    pub fn any(self, of: Kinds) -> bool {
        !self.and(of).is_same()
    }
    pub fn within(self, of: Kinds) -> bool {
        self.without(of).is_same()
    }

    /// Kinds of the items of these lists.
    fn items(self) -> Kinds {
        let pairs = [
            (Kinds::PIECES, Kinds::PIECE),
            (Kinds::TEXTS, Kinds::TEXT),
            (Kinds::PARTS, Kinds::PART),
            (Kinds::MESSAGES, Kinds::MESSAGE),
        ];
        pairs
            .iter()
            .filter(|(list, _)| self.any(*list))
            .fold(Kinds::SAME, |all, (_, item)| all.or(*item))
    }
}

const STRINGS: Kinds = Kinds::PIECE.or(Kinds::TEXT);
const LISTS: Kinds = Kinds::PIECES.or(Kinds::TEXTS).or(Kinds::PARTS).or(Kinds::MESSAGES);
const MAPS: Kinds = Kinds::MESSAGE.or(Kinds::PART);

struct Reading<'s> {
    /// Whether contents reach the template as lists of parts.
    as_parts: bool,
    variables: BTreeMap<&'s str, Kinds>,
    /// Members of all objects, by name.
    fields: BTreeMap<String, Kinds>,
    /// The parameters of the macros of each name; the bodies of call blocks are those named `caller`.
    callables: BTreeMap<&'s str, Vec<Vec<&'s str>>>,
    /// What a call of each callable gives.
    results: BTreeMap<&'s str, Kinds>,
    /// What has been printed so far, per open capture.
    printed: Vec<Kinds>,
    /// Kinds that are left of an expression where a condition holds.
    known: Vec<(String, Kinds)>,
    marks: BTreeSet<String>,
    changed: bool,
}

/// What a model's templates do with the texts of messages (see ContentRules in src/prompt/tokenizer.h).
pub struct Rules {
    pub opaque: bool,
    /// One a line.
    pub marks: String,
    pub reason: String,
}

impl Rules {
    /// Reads the templates, and tries what was found on canned conversations.
    pub fn of(templates: &Templates) -> Rules {
        match found(templates) {
            Ok(marks) => Rules { opaque: true, marks: marks.join("\n"), reason: String::new() },
            Err(reason) => Rules { opaque: false, marks: String::new(), reason },
        }
    }
}

fn found(templates: &Templates) -> Result<Vec<String>, Refusal> {
    let mut marks = BTreeSet::new();
    for (source, as_parts) in templates.sources()? {
        marks.append(&mut read(&source, as_parts)?);
    }
    let marks = marks.into_iter().collect();
    proof::check(templates, &marks)?;
    Ok(marks)
}

/// Constants that texts must not hold, if the template treats texts as opaque.
fn read(source: &str, as_parts: bool) -> Result<BTreeSet<String>, Refusal> {
    let Ok(Stmt::Template(root)) = minijinja::machinery::parse(source, "chat", syntax()) else {
        return Err("the template does not parse".into());
    };
    let mut reading = Reading {
        as_parts,
        variables: BTreeMap::from([("messages", Kinds::MESSAGES)]),
        fields: BTreeMap::new(),
        callables: BTreeMap::new(),
        results: BTreeMap::new(),
        printed: Vec::new(),
        known: Vec::new(),
        marks: BTreeSet::new(),
        changed: true,
    };
    reading.find_callables(&root.children);
    // Each round but the last adds a kind to a name, of which there are finitely many.
    while std::mem::take(&mut reading.changed) {
        reading.printed = vec![Kinds::SAME];
        reading.body(&root.children)?;
    }
    Ok(reading.marks)
}

/// String constants of the template, as texts to try.
fn constants(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if let Ok(tokens) =
        minijinja::machinery::tokenize(source, false, syntax()).collect::<Result<Vec<_>, _>>()
    {
        for (token, _) in tokens {
            use minijinja::machinery::Token;
            match token {
                Token::Str(text) => found.insert(text.to_string()),
                Token::String(text) => found.insert(text.to_string()),
                _ => false,
            };
        }
    }
    found
}

fn name_of<'s>(expr: &Expr<'s>) -> Option<&'s str> {
    match expr {
        Expr::Var(v) => Some(v.id),
        _ => None,
    }
}

impl<'s> Reading<'s> {
    fn find_callables(&mut self, body: &[Stmt<'s>]) {
        for stmt in body {
            let decl = match stmt {
                Stmt::Macro(m) => Some((m.name, &**m)),
                Stmt::CallBlock(c) => Some(("caller", &*c.macro_decl)),
                _ => None,
            };
            if let Some((name, decl)) = decl {
                let params = decl.args.iter().filter_map(name_of).collect();
                self.callables.entry(name).or_default().push(params);
            }
            for inner in bodies(stmt) {
                self.find_callables(inner);
            }
        }
    }

    fn assign(&mut self, name: &'s str, kinds: Kinds) {
        let had = self.variables.entry(name).or_default();
        self.changed |= !kinds.within(*had);
        *had = had.or(kinds);
    }

    fn assign_field(&mut self, name: &str, kinds: Kinds) {
        if kinds.is_same() {
            return;
        }
        let had = self.fields.entry(name.to_string()).or_default();
        self.changed |= !kinds.within(*had);
        *had = had.or(kinds);
    }

    fn bind(&mut self, target: &Expr<'s>, kinds: Kinds) -> Result<(), Refusal> {
        match target {
            Expr::Var(v) => self.assign(v.id, kinds),
            Expr::List(l) => return self.bind_each(&l.items, kinds, target),
            Expr::Tuple(t) => return self.bind_each(&t.items, kinds, target),
            Expr::GetAttr(a) => {
                self.assign_field(a.name, kinds);
                let Some(name) = name_of(&a.expr) else {
                    return refuse(target.span(), "an attribute of something unnamed is set");
                };
                if !kinds.is_same() {
                    self.assign(name, Kinds::OBJECT);
                }
            }
            _ => return refuse(target.span(), "an unknown target is set"),
        }
        Ok(())
    }

    fn bind_each(
        &mut self,
        targets: &[Expr<'s>],
        kinds: Kinds,
        whole: &Expr,
    ) -> Result<(), Refusal> {
        if !kinds.within(LISTS) {
            return refuse(whole.span(), "a content is taken apart");
        }
        targets.iter().try_for_each(|target| self.bind(target, kinds.items()))
    }

    /// What `body` prints.
    fn capture(&mut self, body: &[Stmt<'s>]) -> Result<Kinds, Refusal> {
        self.printed.push(Kinds::SAME);
        self.body(body)?;
        Ok(self.printed.pop().unwrap_or_default())
    }

    fn print(&mut self, at: Span, kinds: Kinds) -> Result<(), Refusal> {
        if !kinds.within(STRINGS) {
            return refuse(at, "something that is made of contents but no text is printed");
        }
        if let (Some(top), false) = (self.printed.last_mut(), kinds.is_same()) {
            *top = Kinds::TEXT;
        }
        Ok(())
    }

    fn branch(
        &mut self,
        condition: &Expr<'s>,
        holds: bool,
        body: &[Stmt<'s>],
    ) -> Result<(), Refusal> {
        let depth = self.known.len();
        let mut set = BTreeSet::new();
        assigned(body, &mut set);
        self.learn(condition, holds);
        let mut at = depth;
        while at < self.known.len() {
            let base = self.known[at].0.split(['.', '[']).next().unwrap_or_default();
            if set.contains(base) {
                self.known.remove(at);
            } else {
                at += 1;
            }
        }
        let result = self.body(body);
        self.known.truncate(depth);
        result
    }

    fn body(&mut self, body: &[Stmt<'s>]) -> Result<(), Refusal> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt<'s>) -> Result<(), Refusal> {
        match stmt {
            Stmt::Template(t) => self.body(&t.children),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
            Stmt::EmitExpr(e) => {
                let kinds = self.expr(&e.expr)?;
                self.print(e.expr.span(), kinds)
            }
            Stmt::ForLoop(f) => {
                let iter = self.expr(&f.iter)?;
                if !iter.within(LISTS.or(MAPS)) {
                    return refuse(f.iter.span(), "a loop runs over a content");
                }
                self.bind(&f.target, iter.items())?;
                if !iter.items().is_same() {
                    self.assign("loop", Kinds::OBJECT);
                    self.assign_field("previtem", iter.items());
                    self.assign_field("nextitem", iter.items());
                }
                if let Some(filter) = &f.filter_expr {
                    self.expr(filter)?;
                }
                // Names may be set anew in the body, on the way round.
                self.body(&f.body)?;
                self.body(&f.else_body)
            }
            Stmt::IfCond(i) => {
                self.expr(&i.expr)?;
                self.branch(&i.expr, true, &i.true_body)?;
                self.branch(&i.expr, false, &i.false_body)
            }
            Stmt::WithBlock(w) => {
                for (target, value) in &w.assignments {
                    let kinds = self.expr(value)?;
                    self.bind(target, kinds)?;
                }
                self.body(&w.body)
            }
            Stmt::Set(s) => {
                let kinds = self.expr(&s.expr)?;
                self.bind(&s.target, kinds)
            }
            Stmt::SetBlock(s) => {
                let mut kinds = self.capture(&s.body)?;
                if let Some(filter) = &s.filter {
                    kinds = self.filtered(filter, kinds)?;
                }
                self.bind(&s.target, kinds)
            }
            Stmt::FilterBlock(f) => {
                let kinds = self.capture(&f.body)?;
                let kinds = self.filtered(&f.filter, kinds)?;
                self.print(f.filter_span, kinds)
            }
            Stmt::Macro(m) => self.declare(m.name, m),
            Stmt::CallBlock(c) => {
                self.declare("caller", &c.macro_decl)?;
                let kinds = self.call(c.call_expr_span, &c.call)?;
                self.print(c.call_expr_span, kinds)
            }
            Stmt::Do(d) => self.call(d.call.span(), &d.call).map(|_| ()),
            Stmt::AutoEscape(_) => Err("autoescape".into()),
        }
    }

    fn declare(&mut self, name: &'s str, decl: &Macro<'s>) -> Result<(), Refusal> {
        // A default stands for one of the last parameters; all of them get it here.
        for default in &decl.defaults {
            let kinds = self.expr(default)?;
            for param in &decl.args {
                self.bind(param, kinds)?;
            }
        }
        // Conditions around the declaration say nothing about its calls.
        let known = std::mem::take(&mut self.known);
        let kinds = self.capture(&decl.body);
        self.known = known;
        let kinds = kinds?;
        let had = self.results.entry(name).or_default();
        self.changed |= !kinds.within(*had);
        *had = had.or(kinds);
        Ok(())
    }
}

/// The statement lists inside a statement.
fn bodies<'t, 's>(stmt: &'t Stmt<'s>) -> Vec<&'t [Stmt<'s>]> {
    match stmt {
        Stmt::Template(t) => vec![&t.children],
        Stmt::ForLoop(f) => vec![&f.body, &f.else_body],
        Stmt::IfCond(i) => vec![&i.true_body, &i.false_body],
        Stmt::WithBlock(w) => vec![&w.body],
        Stmt::SetBlock(s) => vec![&s.body],
        Stmt::AutoEscape(a) => vec![&a.body],
        Stmt::FilterBlock(f) => vec![&f.body],
        Stmt::Macro(m) => vec![&m.body],
        Stmt::CallBlock(c) => vec![&c.macro_decl.body],
        _ => Vec::new(),
    }
}
