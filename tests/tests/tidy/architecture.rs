//! What ARCHITECTURE.md lists is what the sources have.

use std::{collections::BTreeSet, fs, str::FromStr};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

#[test]
fn fused_operations_are_those_that_are_listed() {
    let text = fs::read_to_string(super::root().join("ARCHITECTURE.md")).unwrap();
    let (_, list) = text
        .split_once("compute by a fused kernel")
        .expect("ARCHITECTURE.md lists the operations that \"compute by a fused kernel\"");
    let (list, _) = list.split_once(';').unwrap();
    let listed: BTreeSet<String> = list
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    let mut found = BTreeSet::new();
    for (path, text) in super::sources() {
        if path.starts_with("zoo/nn/src") {
            fusing(TokenStream::from_str(&text).unwrap(), &mut found);
        }
    }
    assert_eq!(
        listed, found,
        "left: the fused operations that ARCHITECTURE.md lists, right: the functions that ask may_fuse"
    );
}

/// Collects the functions that ask whether they may compute by a fused kernel.
fn fusing(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let mut name = None;
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word == "fn" => name = tokens.next(),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                match name.take().filter(|_| asks(group.stream())) {
                    Some(name) => drop(found.insert(name.to_string())),
                    None => fusing(group.stream(), found),
                }
            }
            _ => {}
        }
    }
}

fn asks(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => word == "may_fuse",
        TokenTree::Group(group) => asks(group.stream()),
        _ => false,
    })
}
