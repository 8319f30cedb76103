//! CEL programs: read once, held to bounds, and run for a request.
//!
//! The variables of a program are worked out one after the other, each with those before it, and then
//! its expression. Operators write programs and strangers send what they run on, so both are bounded:
//! text and nesting when a program is read, and before each run an estimate of what it may cost with this
//! request, from above, in time and memory. A program that could cost more is not begun.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::{Context, Env, Value, extensions};
use serde::{Deserialize, Serialize};

use super::messages;
use crate::error::Error;

/// Bytes of all expressions and names together.
const LONGEST_TEXT: usize = 32 * 1024;
/// Variables of a program.
const MOST_VARIABLES: usize = 64;
/// How deep parentheses, calls and lists may lie within one another.
const DEEPEST_NESTING: u16 = 48;
/// How deep the tree of an expression may be: each operator in a row is a step down.
const DEEPEST_TREE: usize = 200;
/// The stack of the thread that reads a program: the parser's own recursion is as deep as its input.
const STACK: usize = 64 << 20;
/// What a run may cost: elementary steps, and bytes and elements of its largest value.
const MOST_STEPS: u64 = 2_000_000;
const LARGEST_VALUE: u64 = 4 << 20;

/// Where names without dots are looked for.
const CONTAINER: &str = "openbao.pki";

/// What every program may name besides its own variables.
const GIVEN: &[&str] =
    &["request", "now", "use_csr", "parsed_csr", "client_token", "entity_id", "entity_groups", "entity_info"];

/// A program as it is written and stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProgramText {
    /// In the order in which they are worked out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) variables: Vec<Variable>,
    /// What decides.
    pub(super) expression: String,
}

/// A name for an expression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Variable {
    /// The name.
    pub(super) name: String,
    /// The expression.
    pub(super) expression: String,
}

/// A program that was read.
pub(super) struct Program {
    variables: Vec<(String, IdedExpr)>,
    expression: IdedExpr,
}

/// The functions and types that programs use.
fn environment() -> Result<Arc<Env>, Error> {
    static ENVIRONMENT: LazyLock<Option<Arc<Env>>> = LazyLock::new(|| {
        let mut env = Env::stdlib();
        env.add_extension(extensions::strings).ok()?;
        env.add_extension(extensions::math).ok()?;
        env.add_extension(extensions::encoders).ok()?;
        messages::add_types(&mut env).ok()?;
        env.set_container(CONTAINER).ok()?;
        Some(Arc::new(env))
    });
    ENVIRONMENT
        .clone()
        .ok_or_else(|| Error::internal("internal error", "the environment of CEL programs cannot be made"))
}

impl Program {
    /// Reads a program.
    pub(super) fn new(text: &ProgramText) -> Result<Self, Error> {
        let ProgramText { variables, expression } = text;
        if expression.is_empty() {
            return Err(Error::invalid("cel_program.expression cannot be empty"));
        }
        if variables.len() > MOST_VARIABLES {
            return Err(Error::invalid(format!(
                "a CEL program has at most {MOST_VARIABLES} variables, not {}",
                variables.len()
            )));
        }
        let length = variables.iter().map(|one| one.name.len() + one.expression.len()).sum::<usize>()
            + expression.len();
        if length > LONGEST_TEXT {
            return Err(Error::invalid(format!(
                "a CEL program has at most {LONGEST_TEXT} bytes, not {length}"
            )));
        }
        let env = environment()?;
        let text = text.clone();
        // What the parser would overflow is not the stack of a thread that others need.
        let reading = std::thread::Builder::new()
            .name("cel".to_owned())
            .stack_size(STACK)
            .spawn(move || Self::read(&env, &text))
            .map_err(|error| Error::internal("internal error", error))?;
        match reading.join() {
            Ok(read) => read,
            Err(_) => Err(Error::invalid("the CEL program could not be read")),
        }
    }

    fn read(env: &Env, text: &ProgramText) -> Result<Self, Error> {
        let parse = |source: &str| -> Result<IdedExpr, String> {
            let parser = env.parser().max_recursion_depth(DEEPEST_NESTING);
            let tree = parser.parse(source).map_err(|errors| errors.to_string())?;
            if is_deeper_than(&tree, DEEPEST_TREE) {
                return Err(format!("its tree is deeper than {DEEPEST_TREE} steps"));
            }
            // How much it writes depends on a number within a text.
            if tree.references().has_function("format") {
                return Err("the function 'format' is not supported".to_owned());
            }
            Ok(tree)
        };
        let mut variables = Vec::with_capacity(text.variables.len());
        for (index, Variable { name, expression }) in text.variables.iter().enumerate() {
            if GIVEN.contains(&name.as_str()) {
                return Err(Error::invalid(format!(
                    "error type-checking CEL MainProgram: overlapping identifier for name '{name}'"
                )));
            }
            let tree = parse(expression).map_err(|reason| {
                Error::invalid(format!(
                    "failed to validate variables: variable[{index}].{name}: failed to validate: invalid CEL syntax for variable '{name}': {reason}"
                ))
            })?;
            variables.push((name.clone(), tree));
        }
        let expression = parse(&text.expression)
            .map_err(|reason| Error::invalid(format!("invalid CEL syntax for main expression: {reason}")))?;
        let known = |name: &str| {
            GIVEN.contains(&name)
                || variables.iter().any(|(known, _)| known == name)
                || messages::is_a_name(name)
        };
        if let Some(name) = unknown_name(&expression, &mut Vec::new(), &known) {
            return Err(Error::invalid(format!(
                "error type-checking CEL MainProgram: undeclared reference to '{name}' (in container '{CONTAINER}')"
            )));
        }
        Ok(Self { variables, expression })
    }

    /// Runs it on a request. Takes as long as the bounds allow, so not for a worker thread.
    pub(super) fn run(&self, given: Vec<(&'static str, Value)>, now: &str) -> Result<Value, Error> {
        let failed = |sentence: String| Error::invalid(format!("error evaluating mainProgram: {sentence}"));
        let env = environment()?;
        let mut context = Context::with_env(env);
        // Values are shared, so keeping them twice costs nothing.
        let mut known: HashMap<String, Value> = HashMap::new();
        for (name, value) in messages::constants() {
            known.insert(name.to_owned(), value.clone());
            context.add_variable_from_value(name, value);
        }
        for (name, value) in given {
            known.insert(name.to_owned(), value.clone());
            context.add_variable_from_value(name, value);
        }
        // An instant is made by the language itself.
        let instant = self.instant(now, &context)?;
        known.insert("now".to_owned(), instant.clone());
        context.add_variable_from_value("now", instant);

        let mut steps = 0_u64;
        for (index, (name, expression)) in self.variables.iter().enumerate() {
            let fail = |reason: &dyn std::fmt::Display| {
                failed(format!("failed to evaluate variables: variable[{index}].{name}: {reason}"))
            };
            steps = within_bounds(expression, &known, steps).map_err(|reason| fail(&reason))?;
            let value = Value::resolve(expression, &context).map_err(|error| fail(&error))?;
            known.insert(name.to_owned(), value.clone());
            context.add_variable_from_value(name.clone(), value);
        }
        let fail =
            |reason: &dyn std::fmt::Display| failed(format!("failed to evaluate expression: {reason}"));
        within_bounds(&self.expression, &known, steps).map_err(|reason| fail(&reason))?;
        Value::resolve(&self.expression, &context).map_err(|error| fail(&error))
    }

    fn instant(&self, now: &str, context: &Context<'_, '_>) -> Result<Value, Error> {
        let call = CallExpr {
            func_name: "timestamp".to_owned(),
            target: None,
            args: vec![IdedExpr { id: 1, expr: Expr::Literal(LiteralValue::String(now.to_owned().into())) }],
        };
        Value::resolve(&IdedExpr { id: 2, expr: Expr::Call(call) }, context)
            .map_err(|error| Error::internal("internal error", error))
    }
}

/// Whether a tree is deeper than `limit`. Looks no deeper than that.
fn is_deeper_than(tree: &IdedExpr, limit: usize) -> bool {
    let Some(limit) = limit.checked_sub(1) else { return true };
    children(tree).into_iter().any(|child| is_deeper_than(child, limit))
}

fn children(tree: &IdedExpr) -> Vec<&IdedExpr> {
    match &tree.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).collect(),
        Expr::Comprehension(one) => {
            vec![&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(one) => one.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
    }
}

/// A name in a tree that nothing stands for.
fn unknown_name<'a>(
    tree: &'a IdedExpr,
    bound: &mut Vec<&'a str>,
    known: &dyn Fn(&str) -> bool,
) -> Option<&'a str> {
    match &tree.expr {
        Expr::Ident(name) => (!bound.contains(&name.as_str()) && !known(name)).then_some(name),
        Expr::Comprehension(one) => {
            let outside = [&one.iter_range, &one.accu_init];
            let found = outside.into_iter().find_map(|tree| unknown_name(tree, bound, known));
            let depth = bound.len();
            bound.extend([one.iter_var.as_str(), one.accu_var.as_str()]);
            bound.extend(one.iter_var2.as_deref());
            let inside = [&one.loop_cond, &one.loop_step, &one.result];
            let found =
                found.or_else(|| inside.into_iter().find_map(|tree| unknown_name(tree, bound, known)));
            bound.truncate(depth);
            found
        }
        _ => children(tree).into_iter().find_map(|tree| unknown_name(tree, bound, known)),
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// How large a value is, or may be at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    /// Elements, or characters, at its top.
    elements: u64,
    /// All bytes and elements within.
    total: u64,
    /// The same of the largest of its elements.
    largest: u64,
}

impl Size {
    const ONE: Self = Self::flat(0);

    const fn flat(length: u64) -> Self {
        Self { elements: length, total: length.saturating_add(1), largest: 1 }
    }

    /// Of something of which only this much is known.
    const fn at_most(total: u64) -> Self {
        Self { elements: total, total, largest: total }
    }

    fn of(value: &Value) -> Self {
        let flat = |length: usize| Self::flat(length as u64);
        match value {
            Value::String(text) => flat(text.len()),
            Value::Bytes(bytes) => flat(bytes.len()),
            Value::List(list) => list.iter().map(Self::of).fold(flat(list.len()), Self::with),
            Value::Map(map) => map.map.iter().fold(flat(map.map.len()), |size, (key, value)| {
                size.with(Self::of(&key.into())).with(Self::of(value))
            }),
            Value::Struct(message) => {
                let fields = message.field_values();
                fields.values().fold(flat(fields.len()), |size, field| {
                    Value::try_from(&**field).map_or(size, |value| size.with(Self::of(&value)))
                })
            }
            _ => Self::ONE,
        }
    }

    /// The same with something within.
    fn with(self, inner: Self) -> Self {
        let total = self.total.saturating_add(inner.total);
        Self { elements: self.elements, total, largest: self.largest.max(inner.total) }
    }

    /// Both behind one another.
    fn and(self, other: Self) -> Self {
        Self {
            elements: self.elements.saturating_add(other.elements),
            total: self.total.saturating_add(other.total),
            largest: self.largest.max(other.largest),
        }
    }

    fn times(self, times: u64) -> Self {
        Self {
            elements: self.elements.saturating_mul(times),
            total: self.total.saturating_mul(times),
            largest: self.largest,
        }
    }

    fn larger(self, other: Self) -> Self {
        Self {
            elements: self.elements.max(other.elements),
            total: self.total.max(other.total),
            largest: self.largest.max(other.largest),
        }
    }
}

/// The steps taken so far and those that an expression may take, if these are not too many.
fn within_bounds(tree: &IdedExpr, known: &HashMap<String, Value>, before: u64) -> Result<u64, String> {
    let mut estimate = Estimate { known, bound: Vec::new(), largest: 0 };
    let (_, steps) = estimate.of(tree);
    let steps = steps.saturating_add(before);
    if steps > MOST_STEPS {
        return Err(format!("it may take {steps} steps with this request, more than {MOST_STEPS}"));
    }
    if estimate.largest > LARGEST_VALUE {
        return Err(format!(
            "a value may grow to {} bytes with this request, more than {LARGEST_VALUE}",
            estimate.largest
        ));
    }
    Ok(steps)
}

/// Bounds from above: what a value may be at most, and how many steps lead to it.
struct Estimate<'a> {
    known: &'a HashMap<String, Value>,
    /// Variables of comprehensions, innermost last.
    bound: Vec<(&'a str, Size)>,
    largest: u64,
}

impl<'a> Estimate<'a> {
    fn of(&mut self, tree: &'a IdedExpr) -> (Size, u64) {
        let (size, steps) = self.unchecked(tree);
        self.largest = self.largest.max(size.total);
        (size, steps.saturating_add(1))
    }

    fn all(&mut self, trees: &[&'a IdedExpr]) -> (Size, u64) {
        trees.iter().fold((Size::default(), 0), |(size, steps), tree| {
            let (of_one, steps_of_one) = self.of(tree);
            (size.and(of_one), steps.saturating_add(steps_of_one))
        })
    }

    fn bound_to(&self, name: &str) -> Option<Size> {
        self.bound.iter().rev().find(|(known, _)| *known == name).map(|(_, size)| *size)
    }

    /// The very value that an expression names, if it names one: a variable, or something within it.
    fn named(&self, tree: &IdedExpr) -> Option<&'a Value> {
        match &tree.expr {
            Expr::Ident(name) if self.bound_to(name).is_none() => self
                .known
                .get(name)
                // Constants are known by their whole names.
                .or_else(|| self.known.get(&format!("{CONTAINER}.{name}"))),
            Expr::Select(select) if !select.test => match self.named(&select.operand)? {
                Value::Map(map) => map.map.get(&cel::objects::Key::from(select.field.as_str())),
                _ => None,
            },
            _ => None,
        }
    }

    fn unchecked(&mut self, tree: &'a IdedExpr) -> (Size, u64) {
        if let Some(value) = self.named(tree) {
            return (Size::of(value), 1);
        }
        match &tree.expr {
            Expr::Unspecified => (Size::ONE, 0),
            Expr::Ident(name) => (self.bound_to(name).unwrap_or(Size::ONE), 0),
            Expr::Literal(literal) => {
                let length = match literal {
                    LiteralValue::String(text) => text.inner().len(),
                    LiteralValue::Bytes(bytes) => bytes.inner().len(),
                    _ => 0,
                };
                (Size::flat(length as u64), 0)
            }
            Expr::Select(select) => {
                let (size, steps) = self.of(&select.operand);
                (if select.test { Size::ONE } else { Size::at_most(size.largest) }, steps)
            }
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => {
                let inner = children(tree);
                let (size, steps) = self.all(&inner);
                let count = inner.len() as u64;
                let total = size.total.saturating_add(count).saturating_add(1);
                (Size { elements: count, total, largest: size.total }, steps)
            }
            Expr::Call(call) => self.call(call, &children(tree)),
            Expr::Comprehension(one) => {
                let (range, before) = self.of(&one.iter_range);
                let (start, starting) = self.of(&one.accu_init);
                let (rounds, element) = (range.elements, Size::at_most(range.largest));
                let depth = self.bound.len();
                self.bound.push((&one.iter_var, element));
                self.bound.extend(one.iter_var2.as_deref().map(|name| (name, element)));
                // What one round adds; what was there before is added below.
                self.bound.push((&one.accu_var, Size::default()));
                let (_, looking) = self.of(&one.loop_cond);
                let (added, adding) = self.of(&one.loop_step);
                self.bound.truncate(depth);
                let grown = start.and(added.times(rounds.max(1)));
                self.largest = self.largest.max(grown.total);
                self.bound.push((&one.accu_var, grown));
                let (result, ending) = self.of(&one.result);
                self.bound.truncate(depth);
                let round = looking.saturating_add(adding).saturating_add(1);
                let steps = rounds.saturating_mul(round);
                (result, [before, starting, steps, ending].into_iter().fold(0, u64::saturating_add))
            }
        }
    }

    fn call(&mut self, call: &'a CallExpr, inner: &[&'a IdedExpr]) -> (Size, u64) {
        if call.func_name == operators::CONDITIONAL {
            return inner.iter().fold((Size::ONE, 0), |(size, steps), tree| {
                let (of_one, steps_of_one) = self.of(tree);
                (size.larger(of_one), steps.saturating_add(steps_of_one))
            });
        }
        let (size, steps) = self.all(inner);
        let (result, looked_at) = match call.func_name.as_str() {
            operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::NOT_STRICTLY_FALSE
            | "size" => (Size::ONE, 1),
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::IN
            | "startsWith"
            | "endsWith"
            | "contains"
            | "matches" => (Size::ONE, size.total),
            operators::ADD => (size, size.total),
            operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT => {
                (Size::at_most(size.largest), 1)
            }
            // Each piece may be replaced by, or stand between, as much as all that is given.
            "replace" | "join" => {
                let result = Size::at_most(size.total.saturating_mul(size.total.max(1)));
                (result, result.total)
            }
            _ => (Size::at_most(size.total.saturating_mul(2).saturating_add(64)), size.total),
        };
        (result, steps.saturating_add(looked_at))
    }
}
