//! Finds, in pen's own sources, every text that an error is made of.
//!
//! Looked for are the `#[error("…")]` of error types, what serde says it expected, and the literals in whatever makes
//! an error: `Err(…)`, constructors of the error types, functions that return one, closures that call either, and
//! variables and texts of functions that are handed to them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use super::template::Template;

/// Functions and closures that make an error although no type says so: serde's own, and our habits.
const HABITS: &[&str] = &["Err", "custom", "refuse", "wrong", "parsed"];
/// Methods that make an error of what they are given.
const METHODS: &[&str] = &["map_err", "ok_or", "ok_or_else"];
/// Methods that give, or write, what they are given.
const CHOICES: &[&str] = &[
    "map",
    "map_or",
    "map_or_else",
    "then",
    "then_some",
    "unwrap_or",
    "unwrap_or_else",
    "or_else",
    "write_str",
];

/// All of them, in the order of files and lines.
pub(super) fn templates() -> Vec<Template> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<(PathBuf, syn::File)> = sources(&root)
        .into_iter()
        .map(|path| {
            let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
            (path, file)
        })
        .collect();
    let mut makers = Makers::default();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    for (path, file) in &files {
        makers.file = name(path);
        makers.visit_file(file);
    }
    let mut found = Vec::new();
    for (path, file) in &files {
        let mut collector = Collector::of(name(path), &makers.names, &mut found);
        let mut hands = Hands { collector: &collector, names: BTreeSet::new() };
        hands.visit_file(file);
        collector.asked = hands.names;
        collector.visit_file(file);
    }
    found.retain(Template::says_something);
    found.sort();
    found.dedup();
    found
}

/// Source files, tests left out.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if ["tests", "testing", "messages", "fake"].contains(&stem.as_str()) {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

fn last(path: &syn::Path) -> String {
    path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
}

/// Whether a type's name is that of an error.
fn is_error(name: &str) -> bool {
    name.ends_with("Error") || name == "Failure"
}

/// Whether a path is that of an error type or of something in it, such as `ApiError::new`; `Outcome::Failure` is not.
fn names_an_error(path: &syn::Path) -> bool {
    let all: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    let [types @ .., variant] = all.as_slice() else { return false };
    types.iter().any(|name| is_error(name)) || types.is_empty() && is_error(variant)
}

/// Whether a function gives an error: not a result, the error itself.
fn gives_an_error(signature: &syn::Signature) -> bool {
    match &signature.output {
        syn::ReturnType::Type(_, kind) => match &**kind {
            syn::Type::Path(kind) => is_error(&last(&kind.path)),
            _ => false,
        },
        syn::ReturnType::Default => false,
    }
}

/// Names of functions that give an error: not a result, the error itself.
#[derive(Default)]
struct Makers {
    /// The file being looked at.
    file: String,
    /// With the file that alone may call it; none for those that others may call, too.
    names: BTreeSet<(Option<String>, String)>,
}

impl Makers {
    fn look(&mut self, seen: &syn::Visibility, signature: &syn::Signature) {
        if gives_an_error(signature) {
            let private = matches!(seen, syn::Visibility::Inherited).then(|| self.file.clone());
            self.names.insert((private, signature.ident.to_string()));
        }
    }
}

impl<'ast> Visit<'ast> for Makers {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.look(&item.vis, &item.sig);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.look(&item.vis, &item.sig);
        visit::visit_impl_item_fn(self, item);
    }
}

/// Collects what one file's errors are made of.
struct Collector<'a> {
    file: String,
    makers: &'a BTreeSet<(Option<String>, String)>,
    /// Closures of the function at hand that make errors.
    closures: BTreeSet<String>,
    /// Names of the function at hand that are handed to what makes errors.
    handed: BTreeSet<String>,
    /// The same of the whole file: of its functions, too.
    asked: BTreeSet<String>,
    found: &'a mut Vec<Template>,
}

impl<'a> Collector<'a> {
    fn of(
        file: String,
        makers: &'a BTreeSet<(Option<String>, String)>,
        found: &'a mut Vec<Template>,
    ) -> Collector<'a> {
        let none = BTreeSet::new;
        Collector { file, makers, closures: none(), handed: none(), asked: none(), found }
    }
}

impl Collector<'_> {
    fn makes_an_error(&self, function: &syn::Expr) -> bool {
        let syn::Expr::Path(function) = function else { return false };
        let name = last(&function.path);
        names_an_error(&function.path) && name != "from"
            || HABITS.contains(&name.as_str())
            || self.closures.contains(&name)
            || self.makers.contains(&(None, name.clone()))
            || self.makers.contains(&(Some(self.file.clone()), name))
    }

    /// Whether a function gives what an error says.
    fn is_asked_for_text(&self, signature: &syn::Signature) -> bool {
        let syn::ReturnType::Type(_, kind) = &signature.output else { return false };
        let text = matches!(&**kind, syn::Type::Path(kind) if last(&kind.path) == "String");
        text && self.asked.contains(&signature.ident.to_string())
    }

    /// Looks through a function: its signature says whether all it says is an error's.
    fn look_through(&mut self, signature: &syn::Signature, block: &syn::Block) {
        self.closures.clear();
        let mut hands = Hands { collector: self, names: BTreeSet::new() };
        hands.visit_block(block);
        self.handed = hands.names;
        // The macro's name.
        self.handed.remove("format");
        if gives_an_error(signature) || signature.ident == "expecting" || self.is_asked_for_text(signature) {
            Literals(self).visit_block(block);
        }
    }

    fn take_literals(&mut self, tokens: proc_macro2::TokenStream) {
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Group(group) => self.take_literals(group.stream()),
                proc_macro2::TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                        let place = format!("{}:{}", self.file, literal.span().start().line);
                        self.found.push(Template { place, text: text.value() });
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.look_through(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.look_through(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("error")
            && let syn::Meta::List(list) = &attribute.meta
        {
            // The first literal is the message; literals behind it are arguments.
            let message = list.tokens.clone().into_iter().next();
            self.take_literals(message.into_iter().collect());
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let (syn::Pat::Ident(name), Some(init)) = (&local.pat, &local.init)
            && let syn::Expr::Closure(closure) = &*init.expr
        {
            let mut search = Search { collector: self, found: false };
            search.visit_expr(&closure.body);
            if search.found {
                self.closures.insert(name.ident.to_string());
            }
        }
        let mut names = Names(BTreeSet::new());
        names.visit_pat(&local.pat);
        if let Some(init) = &local.init
            && !names.0.is_disjoint(&self.handed)
        {
            Literals(self).visit_expr(&init.expr);
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if self.makes_an_error(&call.func) {
            let arguments = &call.args;
            self.take_literals(quote::quote!(#arguments));
        } else {
            visit::visit_expr_call(self, call);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if METHODS.contains(&call.method.to_string().as_str()) {
            call.args.iter().for_each(|argument| Literals(self).visit_expr(argument));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_struct(&mut self, made: &'ast syn::ExprStruct) {
        if names_an_error(&made.path) {
            let fields = &made.fields;
            self.take_literals(quote::quote!(#fields));
        } else {
            visit::visit_expr_struct(self, made);
        }
    }
}

/// Takes the literals that an expression may come to, and none that it only looks for.
struct Literals<'a, 'b>(&'a mut Collector<'b>);

impl<'ast> Visit<'ast> for Literals<'_, '_> {
    fn visit_expr_lit(&mut self, literal: &'ast syn::ExprLit) {
        self.0.take_literals(quote::quote!(#literal));
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if ["format", "write"].contains(&last(&call.path).as_str()) {
            self.0.take_literals(call.tokens.clone());
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.visit_expr(&call.receiver);
        if CHOICES.contains(&call.method.to_string().as_str()) {
            call.args.iter().for_each(|argument| self.visit_expr(argument));
        }
    }

    fn visit_expr_binary(&mut self, _: &'ast syn::ExprBinary) {}

    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
}

/// Collects the names that a pattern makes.
struct Names(BTreeSet<String>);

impl<'ast> Visit<'ast> for Names {
    fn visit_pat_ident(&mut self, name: &'ast syn::PatIdent) {
        self.0.insert(name.ident.to_string());
    }
}

/// Collects the names that are handed to what makes errors.
struct Hands<'a, 'b> {
    collector: &'a Collector<'b>,
    names: BTreeSet<String>,
}

impl Hands<'_, '_> {
    fn take(&mut self, tokens: proc_macro2::TokenStream) {
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Group(group) => self.take(group.stream()),
                proc_macro2::TokenTree::Ident(name) => drop(self.names.insert(name.to_string())),
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Hands<'_, '_> {
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if self.collector.makes_an_error(&call.func) {
            let arguments = &call.args;
            self.take(quote::quote!(#arguments));
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_struct(&mut self, made: &'ast syn::ExprStruct) {
        if names_an_error(&made.path) {
            let fields = &made.fields;
            self.take(quote::quote!(#fields));
        }
        visit::visit_expr_struct(self, made);
    }
}

/// Whether an expression makes an error.
struct Search<'a, 'b> {
    collector: &'a Collector<'b>,
    found: bool,
}

impl<'ast> Visit<'ast> for Search<'_, '_> {
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        self.found |= self.collector.makes_an_error(&call.func);
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_struct(&mut self, made: &'ast syn::ExprStruct) {
        self.found |= names_an_error(&made.path);
        visit::visit_expr_struct(self, made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_kind_are_found() {
        let found = templates();
        let has = |file: &str, text: &str| {
            assert!(
                found.iter().any(|one| one.place.starts_with(file) && one.text.contains(text)),
                "{file}: {text}"
            );
        };
        has("state/store", "is in use by the controller");
        has("state/text.rs", "no protocol");
        has("state/text.rs", "is not a MAC address");
        has("controller.rs", "there is no service");
        has("client.rs", "no controller answers");
        // In a tuple, of a helper, of a variable, of serde, of a method, of a closure for a name.
        has("config/keys.rs", "unknown key `{name}` in {}");
        has("server/tcp.rs", "somebody else listens there");
        has("server/clients.rs", "nobody is named to be forgotten");
        has("state/text.rs", "a duration in quotes");
        has("run/instance.rs", "that do not say whose they are");
        has("dataplane/xdp/interfaces.rs", "attach XDP to {name}");
        assert!(found.len() > 150, "only {}", found.len());
    }
}
