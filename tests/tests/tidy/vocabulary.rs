//! What graphs, ports and runtimes are called stands in zoo-graph. Elsewhere such words name things; what something is, code
//! asks the types. Plugins are exempt: their authors name their own graphs.

use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use zoo_graph::{GraphKind, PortRole, RuntimeId};

#[test]
fn no_code_compares_words_of_the_vocabulary() {
    let exempt = ["zoo/graph", "plugins", "tests/third-party"];
    let mut found = Vec::new();
    for (path, text) in super::sources() {
        if exempt.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        for word in compared(&text) {
            found.push(format!("  {}: {word}", path.display()));
        }
    }
    assert!(
        found.is_empty(),
        "words are compared, where Port::role, GraphInfo::kind or a RuntimeId can be asked:\n{}",
        found.join("\n")
    );
}

#[test]
fn comparisons_and_patterns_are_told_from_names() {
    let wrong = [
        r#"if port.name == "noise" {}"#,
        r#"if *name != "ort" {}"#,
        r#"if "mask" == name {}"#,
        r#"match name { "sample" => 1, _ => 2 }"#,
        r#"match name { "own" | "sample" => 1, _ => 2 }"#,
        r#"match name { "x" if large => 1, _ => 2 }"#,
        r#"match (name, n) { ("label", Some(_)) => 1, _ => 2 }"#,
        r#"matches!(name, Some("tract"))"#,
        r#"let Some("z") = name else { return };"#,
        r#"names.contains(&"decode")"#,
    ];
    for code in wrong {
        assert_eq!(compared(code).len(), 1, "{code}");
    }
    let right = [
        r#"Port::normal("noise", &[2]);"#,
        r#"let x = inputs["x"] == y;"#,
        r#"assert_eq!(names, ["sample", "decode"]);"#,
        r#"assert!(error.contains("mask"));"#,
        r#"#[cfg(feature = "ort")] fn f() {}"#,
        r#"match name { "own" => "sample", _ => "decode" }"#,
        r#"names.map(|_| "sample")"#,
        r#"match name { "own" => f("sample"), _ => g(("x", 1)) }"#,
    ];
    for code in right {
        assert_eq!(compared(code), [""; 0], "{code}");
    }
}

/// The words of the vocabulary that a file compares with, or matches on.
fn compared(text: &str) -> Vec<String> {
    let known = |word: &&str| {
        GraphKind::ALL.iter().any(|kind| kind.name() == *word)
            || PortRole::ALL.iter().any(|role| role.name() == *word)
            || RuntimeId::ALL.iter().any(|id| id.name() == *word)
    };
    let mut found = Vec::new();
    walk(TokenStream::from_str(text).unwrap(), &mut found);
    let literal = |text: &String| Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    let words = found.iter().filter_map(literal);
    words.filter(|word| known(&word.as_str())).collect()
}

/// Collects the literals that are compared with, or matched on.
fn walk(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (i, token) in tokens.iter().enumerate() {
        let (before, after) = (&tokens[..i], &tokens[i + 1..]);
        match token {
            TokenTree::Literal(literal) if follows(before) || precedes(after) => {
                found.push(literal.to_string());
            }
            TokenTree::Group(group) => {
                let parenthesis = group.delimiter() == Delimiter::Parenthesis;
                let pattern = parenthesis && (is_pattern(after) || is_word(before, "matches"));
                let member = parenthesis && is_word(before, "contains");
                match pattern {
                    true => literals(group.stream(), found),
                    false if member => borrowed(group.stream(), found),
                    false => walk(group.stream(), found),
                }
            }
            _ => {}
        }
    }
}

/// Every literal in a pattern.
fn literals(tokens: TokenStream, found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Literal(literal) => found.push(literal.to_string()),
            TokenTree::Group(group) => literals(group.stream(), found),
            _ => {}
        }
    }
}

/// `&"word"`: what a list is asked for, where a text would be asked for `"word"`.
fn borrowed(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Punct(and), TokenTree::Literal(literal)] if and.as_char() == '&' => {
            found.push(literal.to_string());
        }
        _ => walk(tokens.into_iter().collect(), found),
    }
}

/// The punctuation that tokens begin with.
fn punctuation<'a>(tokens: impl Iterator<Item = &'a TokenTree>) -> String {
    let signs = tokens.map_while(|token| match token {
        TokenTree::Punct(punct) => Some(punct.as_char()),
        _ => None,
    });
    signs.collect()
}

/// Whether what stands before a literal compares with it: `==`, or `!= &`.
fn follows(before: &[TokenTree]) -> bool {
    let signs: String = punctuation(before.iter().rev()).chars().rev().collect();
    let sign = signs.trim_end_matches(['&', '*']);
    sign.ends_with("==") || sign.ends_with("!=")
}

/// Whether what stands after a literal compares it.
fn precedes(after: &[TokenTree]) -> bool {
    let signs = punctuation(after.iter());
    signs.starts_with("==") || signs.starts_with("!=") || is_pattern(after)
}

/// Whether what stands before this was a pattern: `=>`, `|`, `=` or `if` follows.
fn is_pattern(after: &[TokenTree]) -> bool {
    let signs = punctuation(after.iter());
    let guard = matches!(after.first(), Some(TokenTree::Ident(word)) if word == "if");
    guard || signs.starts_with("=>") || signs == "|" || signs == "="
}

/// Whether a call's or a macro's name stands before.
fn is_word(before: &[TokenTree], name: &str) -> bool {
    let called = before.iter().rev().find_map(|token| match token {
        TokenTree::Punct(punct) if punct.as_char() == '!' => None,
        other => Some(other.to_string() == name),
    });
    called == Some(true)
}
