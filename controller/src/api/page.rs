//! Pages of lists: ordered by id, cut by a token that holds the last id. The
//! token is opaque to clients and checked like any other input.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::Status;

use super::field;
use super::status::invalid;

/// One page of `items` (in key order) after `token`, and the next token.
pub fn cut<'a, T: 'a, K: FromStr + Ord + ToString>(
    items: impl Iterator<Item = &'a T>,
    key: impl Fn(&T) -> K,
    page_size: u32,
    token: &str,
) -> Result<(Vec<&'a T>, String), Status> {
    let size = field::page_size(page_size)?;
    let after = after::<K>(token)?;
    let mut rest = items.filter(|item| after.as_ref().is_none_or(|after| key(item) > *after));
    let page: Vec<&T> = rest.by_ref().take(size).collect();
    let next = match page.last() {
        Some(last) if rest.next().is_some() => encode(&key(last)),
        _ => String::new(),
    };
    Ok((page, next))
}

/// What a token stands behind; `None` for the first page. For tables that can
/// begin there instead of being read from their start.
pub fn after<K: FromStr>(token: &str) -> Result<Option<K>, Status> {
    match token {
        "" => Ok(None),
        token => decode(token).map(Some),
    }
}

fn encode(key: &impl ToString) -> String {
    URL_SAFE_NO_PAD.encode(key.to_string())
}

fn decode<K: FromStr>(token: &str) -> Result<K, Status> {
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid("page_token", "a token from the previous page"))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn pages_join_to_the_whole_list() {
        let items: Vec<u64> = (0..10).collect();
        let (mut token, mut seen) = (String::new(), Vec::<u64>::new());
        loop {
            let (page, next) = cut(items.iter(), |i| *i, 3, &token).expect("a page");
            seen.extend(page.into_iter().copied());
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, items);
        assert!(cut(items.iter(), |i| *i, 3, "%%%").is_err());
        assert!(cut(items.iter(), |i| *i, 1001, "").is_err());
    }
}
