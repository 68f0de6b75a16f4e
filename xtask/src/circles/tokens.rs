//! Tokens of a Rust file, without comments and literals.

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// An identifier or a keyword.
    Word(String),
    /// `::`
    PathSeparator,
    /// Any other character that is not blank.
    Mark(char),
}

impl Token {
    /// Returns whether it is this word.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }
}

/// Splits a source text into tokens.
pub fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        let next = characters.get(at + 1).copied();
        at = match (c, next) {
            ('/', Some('/')) => end_of_line(&characters, at),
            ('/', Some('*')) => end_of_comment(&characters, at),
            ('"', _) => end_of_text(&characters, at + 1),
            ('r', Some('"' | '#')) if is_raw(&characters, at) => end_of_raw(&characters, at + 1),
            ('b', Some('r')) if is_raw(&characters, at + 1) => end_of_raw(&characters, at + 2),
            ('\'', _) => end_of_quote(&characters, at),
            (':', Some(':')) => {
                found.push(Token::PathSeparator);
                at + 2
            }
            _ if is_word(c) => {
                let length = characters[at..].iter().take_while(|&&c| is_word(c)).count();
                let word: String = characters[at..at + length].iter().collect();
                found.push(Token::Word(word));
                at + length
            }
            _ => {
                if !c.is_whitespace() {
                    found.push(Token::Mark(c));
                }
                at + 1
            }
        };
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn end_of_line(characters: &[char], at: usize) -> usize {
    characters[at..].iter().position(|&c| c == '\n').map_or(characters.len(), |end| at + end)
}

/// Comments nest.
fn end_of_comment(characters: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < characters.len() {
        match (characters[at], characters.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_text(characters: &[char], mut at: usize) -> usize {
    while let Some(c) = characters.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// Returns whether `r` begins a raw string, and not a word or a raw identifier.
fn is_raw(characters: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| characters.get(before));
    let hashes = characters[at + 1..].iter().take_while(|&&c| c == '#').count();
    !before.is_some_and(|&c| is_word(c) && c != 'b')
        && characters.get(at + 1 + hashes) == Some(&'"')
}

fn end_of_raw(characters: &[char], at: usize) -> usize {
    let hashes = characters[at..].iter().take_while(|&&c| c == '#').count();
    let mut end = at + hashes + 1;
    while end < characters.len() {
        let after = characters[end + 1..].iter().take(hashes);
        if characters[end] == '"' && after.filter(|&&c| c == '#').count() == hashes {
            return end + 1 + hashes;
        }
        end += 1;
    }
    end
}

/// Returns the end of a character literal, or of the quote of a lifetime.
fn end_of_quote(characters: &[char], at: usize) -> usize {
    match (characters.get(at + 1), characters.get(at + 2)) {
        (Some('\\'), _) => {
            let close = characters[at + 3..].iter().position(|&c| c == '\'');
            close.map_or(characters.len(), |close| at + 3 + close + 1)
        }
        (_, Some('\'')) => at + 3,
        _ => at + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let words = tokens(text).into_iter().filter_map(|token| match token {
            Token::Word(word) => Some(word),
            _ => None,
        });
        words.collect()
    }

    #[test]
    fn comments_and_literals_are_left_out() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(words(r##"a "b \" c" d r#"e " f"# g b"h" br"i" j"##), ["a", "d", "g", "b", "j"]);
        assert_eq!(words(r"a 'b' '\'' c '\u{1F600}' d &'e f"), ["a", "c", "d", "e", "f"]);
    }

    #[test]
    fn paths_keep_their_separators() {
        use Token::{Mark, PathSeparator, Word};
        let word = |word: &str| Word(word.into());
        assert_eq!(
            tokens("x: a::b;"),
            [word("x"), Mark(':'), word("a"), PathSeparator, word("b"), Mark(';')]
        );
    }
}
