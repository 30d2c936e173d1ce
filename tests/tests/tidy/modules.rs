//! Modules depend one way, as crates do: of the modules beside each other in a file or folder, none reaches itself through
//! others. What stands in a parent is free to all below it; unit tests are exempt.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module's place below the crate: `[directory, checkpoint]`.
type Place = Vec<String>;

#[test]
fn modules_depend_one_way() {
    let mut found = Vec::new();
    for folder in super::package_folders() {
        let crate_folder = folder.strip_prefix(super::root()).unwrap().display();
        let krate = Crate::read(&folder.join("src"));
        for (parent, uses) in krate.uses_between_siblings() {
            for circle in circles(&uses) {
                let within = |name: &String| circle.contains(name);
                let inner = uses.iter().filter(|(from, _)| within(from));
                let lines: Vec<String> = inner
                    .flat_map(|(from, to)| to.iter().map(move |(to, how)| (from, to, how)))
                    .filter(|(_, to, _)| within(to))
                    .map(|(from, to, how)| format!("  {from} uses {to}: {how}"))
                    .collect();
                let place = match parent.as_slice() {
                    [] => "at its top".into(),
                    parent => format!("in {}", parent.join("::")),
                };
                found.push(format!("{crate_folder}, {place}:\n{}", lines.join("\n")));
            }
        }
    }
    assert!(
        found.is_empty(),
        "modules use each other in a circle; move what both need below them\n{}",
        found.join("\n")
    );
}

/// For each module those that it uses, with a path that says so.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// Groups of modules that reach each other.
fn circles(uses: &Uses) -> BTreeSet<BTreeSet<String>> {
    let reached = |from: &String| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            let new = uses.get(module).into_iter().flat_map(BTreeMap::keys);
            next.extend(new.filter(|to| reached.insert((*to).clone())));
        }
        reached
    };
    let all: BTreeMap<_, _> = uses.keys().map(|from| (from, reached(from))).collect();
    let circle = |from: &String| -> BTreeSet<String> {
        let back = |to: &&String| all.get(to).is_some_and(|reached| reached.contains(from));
        all[from].iter().filter(back).cloned().collect()
    };
    uses.keys().map(circle).filter(|c| c.len() > 1).collect()
}

/// What each module of a crate names.
#[derive(Default)]
struct Crate {
    modules: BTreeMap<Place, Names>,
}

#[derive(Default)]
struct Names {
    /// What `use` brings in, by the name it has then.
    imported: BTreeMap<String, Place>,
    /// Every path that starts in the crate.
    paths: BTreeSet<Place>,
    /// Modules for tests alone.
    tests: Vec<String>,
}

impl Crate {
    fn read(src: &Path) -> Self {
        fn walk(folder: &Path, place: &Place, krate: &mut Crate) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                let mut inner = place.clone();
                if !["lib", "main", "mod"].contains(&name.as_str()) {
                    inner.push(name);
                }
                if path.is_dir() {
                    walk(&path, &inner, krate);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    let names = Names::read(&tokens(&fs::read_to_string(&path).unwrap()));
                    let whole = krate.modules.entry(inner).or_default();
                    whole.imported.extend(names.imported);
                    whole.paths.extend(names.paths);
                    whole.tests.extend(names.tests);
                }
            }
        }
        let mut krate = Self::default();
        walk(src, &Vec::new(), &mut krate);
        // A program beside the library is a crate of its own.
        krate
            .modules
            .retain(|place, _| place.first().is_none_or(|name| name != "bin"));
        let tests: Vec<Place> = krate
            .modules
            .iter()
            .flat_map(|(place, names)| names.tests.iter().map(|name| join(place, name)))
            .collect();
        krate
            .modules
            .retain(|place, _| !tests.iter().any(|test| place.starts_with(test)));
        krate
    }

    /// The module that a path of `from` leads to, through what others import; none outside the crate.
    fn resolve(&self, from: &Place, path: &[String], depth: usize) -> Option<Place> {
        let (first, mut rest) = path.split_first().filter(|_| depth < 8)?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            name if self.modules.contains_key(&join(from, name)) => join(from, name),
            name => {
                let imported = self.modules.get(from)?.imported.get(name)?;
                if imported[..] == path[..1] {
                    return None;
                }
                return self.resolve(from, &[imported, rest].concat(), depth + 1);
            }
        };
        while let Some((name, further)) = rest.split_first() {
            if name == "super" {
                at.pop();
            } else if self.modules.contains_key(&join(&at, name)) {
                at.push(name.clone());
            } else {
                let imported = self.modules.get(&at).and_then(|m| m.imported.get(name));
                let through = imported.and_then(|path| self.resolve(&at, path, depth + 1));
                return Some(through.unwrap_or(at));
            }
            rest = further;
        }
        Some(at)
    }

    /// For each module with others in it, which of these use which.
    fn uses_between_siblings(&self) -> BTreeMap<Place, Uses> {
        let mut all: BTreeMap<Place, Uses> = BTreeMap::new();
        for (from, names) in &self.modules {
            for path in &names.paths {
                let Some(to) = self.resolve(from, path, 0) else {
                    continue;
                };
                let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
                    let uses = all.entry(from[..common].to_vec()).or_default();
                    let to = uses.entry(a.clone()).or_default();
                    to.entry(b.clone()).or_insert_with(|| path.join("::"));
                }
            }
        }
        all
    }
}

fn join(place: &[String], name: &str) -> Place {
    [place, &[name.to_owned()]].concat()
}

impl Names {
    fn read(tokens: &[String]) -> Self {
        let mut names = Self::default();
        let mut i = 0;
        while i < tokens.len() {
            let at = |n: usize| tokens.get(i + n).map_or("", String::as_str);
            let test = (0..5).map(at).eq(["#", "[", "cfg", "(", "test"])
                || (0..7)
                    .map(at)
                    .eq(["#", "[", "cfg", "(", "all", "(", "test"]);
            if test {
                let end = item_end(tokens, i);
                let module = tokens[i..end]
                    .windows(3)
                    .find(|w| w[0] == "mod" && w[2] == ";");
                names.tests.extend(module.map(|w| w[1].clone()));
                i = end;
            } else if at(0) == "use" && at(1) != "<" {
                i += 1;
                names.tree(tokens, &mut i, &[]);
            } else if ["crate", "super", "self"].contains(&at(0)) && at(1) == "::" {
                let mut path = vec![at(0).to_owned()];
                i += 1;
                while tokens.get(i).is_some_and(|t| t == "::")
                    && tokens.get(i + 1).is_some_and(|t| is_name(t))
                {
                    path.push(tokens[i + 1].clone());
                    i += 2;
                }
                names.paths.insert(path);
            } else {
                i += 1;
            }
        }
        names
    }

    /// A tree of `use`, whose beginning is `before`: `a::{self, b::c as d}`.
    fn tree(&mut self, tokens: &[String], i: &mut usize, before: &[String]) {
        let mut path = before.to_vec();
        let mut name = None;
        while let Some(token) = tokens.get(*i) {
            match token.as_str() {
                "{" => {
                    *i += 1;
                    while tokens.get(*i).is_some_and(|t| t != "}" && t != ";") {
                        self.tree(tokens, i, &path);
                        *i += usize::from(tokens.get(*i).is_some_and(|t| t == ","));
                    }
                    *i += 1;
                    return;
                }
                "," | "}" | ";" => break,
                "as" => {
                    name = tokens.get(*i + 1).cloned();
                    *i += 1;
                }
                "self" if !path.is_empty() => {}
                token if is_name(token) => path.push(token.to_owned()),
                _ => {}
            }
            *i += 1;
        }
        if let Some(last) = name.or_else(|| path.last().cloned()) {
            self.imported.insert(last, path.clone());
            self.paths.insert(path);
        }
    }
}

/// Behind the item that an attribute at `start` belongs to: after its `;` or its last `}`.
fn item_end(tokens: &[String], start: usize) -> usize {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(start) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token == "}" {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single signs; comments and literals are left out.
fn tokens(text: &str) -> Vec<String> {
    fn flatten(stream: TokenStream, out: &mut Vec<String>) {
        for token in stream {
            match token {
                TokenTree::Group(group) => {
                    let [open, close] = match group.delimiter() {
                        Delimiter::Parenthesis => ["(", ")"],
                        Delimiter::Brace => ["{", "}"],
                        Delimiter::Bracket => ["[", "]"],
                        Delimiter::None => ["", ""],
                    };
                    out.push(open.to_owned());
                    flatten(group.stream(), out);
                    out.push(close.to_owned());
                }
                TokenTree::Punct(sign)
                    if out.last().is_some_and(|t| t == ":") && sign.as_char() == ':' =>
                {
                    *out.last_mut().unwrap() = "::".to_owned();
                }
                TokenTree::Literal(_) => {}
                other => out.push(other.to_string()),
            }
        }
    }
    let mut out = Vec::new();
    flatten(text.parse().unwrap(), &mut out);
    out
}

#[test]
fn paths_are_found_and_tests_are_not() {
    let text = r##"
        use crate::{a::{self, B as C}, d}; // use crate::comment;
        #[cfg(test)]
        mod tests;
        fn f<'a>(x: &'a str) -> char { let _ = ("use crate::text;", r#"crate::raw"#, '"', '\'', 'x'); super::e::g() }
        #[cfg(all(test, unix))]
        mod more { use crate::tested; }
        use self::last;
    "##;
    let names = Names::read(&tokens(text));
    let paths: Vec<String> = names.paths.iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::a",
        "crate::a::B",
        "crate::d",
        "self::last",
        "super::e::g",
    ];
    assert_eq!(paths, expected);
    assert_eq!(names.imported["C"].join("::"), "crate::a::B");
    assert_eq!(names.tests, ["tests"]);
}
