//! Lists of prefixes as they are typed: with commas between them, or in a file of their own.

use std::path::Path;

use super::error::CliError;
use crate::api::ApiError;
use crate::state::text;

/// What stands between commas; `none` = nothing. `about` and `flag` are what complaints are about.
///
/// # Errors
/// Nothing stands there: a variable that was not set must not take a list away.
pub(super) fn typed(about: &str, flag: &str, text: &str) -> Result<Vec<String>, CliError> {
    if text.trim() == "none" {
        return Ok(Vec::new());
    }
    let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    let all: Vec<String> = all.map(str::to_owned).collect();
    match all.is_empty() {
        true => Err(ApiError::invalid(
            format!("{about}: --{flag} names no prefix"),
            format!("to take the list away write --{flag} none"),
        )
        .into()),
        false => Ok(all),
    }
}

/// The same, or behind an `@` the name of a file with one a line.
///
/// # Errors
/// Nothing stands there, or names of files that are not behind an `@` alone; the file cannot be read, says something else,
/// or nothing.
pub(super) fn list(about: &str, flag: &str, text: &str) -> Result<Vec<String>, CliError> {
    match text.strip_prefix('@') {
        None => {
            let all = typed(about, flag, text)?;
            match all.iter().find_map(|one| meant_for_a_file(about, flag, one)) {
                Some(error) => Err(error.into()),
                None => Ok(all),
            }
        }
        Some("") => Err(ApiError::invalid(
            format!("{about}: --{flag} @ lacks the name of a file"),
            format!("write it as --{flag} @/etc/pen/prefixes.txt"),
        )
        .into()),
        Some(path) => file(about, flag, path),
    }
}

/// Why what is no prefix cannot be one of several, if it names a file.
fn meant_for_a_file(about: &str, flag: &str, one: &str) -> Option<ApiError> {
    if text::prefix(one).is_ok() {
        return None;
    }
    let shown = one.escape_debug();
    if one.starts_with('@') {
        return Some(ApiError::invalid(
            format!("{about}: {flag}: `{shown}` stands among other prefixes"),
            "give either prefixes or one @FILE, which may hold them all",
        ));
    }
    let path = ["/", "./", "../"].iter().any(|start| one.starts_with(start)) || Path::new(one).exists();
    path.then(|| {
        ApiError::invalid(
            format!("{about}: {flag}: `{shown}` is neither an address nor a prefix"),
            format!("to read them from that file write --{flag} @{shown}"),
        )
    })
}

/// What a file lists.
fn file(about: &str, flag: &str, path: &str) -> Result<Vec<String>, CliError> {
    let named = format!("{about}: {flag}: {path}");
    let content = std::fs::read_to_string(path).map_err(|error| {
        ApiError::invalid(
            format!("{named}: cannot be read: {error}"),
            "give a text file that is there and readable",
        )
    })?;
    let all = lines(&content).map_err(|(line, error)| {
        let ApiError { code, message, hint } = ApiError::from(error);
        ApiError::new(code, format!("{named}:{line}: {message}"), hint)
    })?;
    match all.is_empty() {
        // An empty list lets everybody in: not what somebody wants whose file was not filled.
        true => Err(ApiError::invalid(
            format!("{named}: holds no prefix"),
            format!("write --{flag} none to have none"),
        )
        .into()),
        false => Ok(all),
    }
}

/// One prefix a line; what follows a `#` is a comment. What is none, with the number of its line.
fn lines(content: &str) -> Result<Vec<String>, (usize, text::TextError)> {
    let mut all = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let said = line.split('#').next().unwrap_or_default().trim();
        if !said.is_empty() {
            let net = text::network(said).map_err(|error| (index + 1, error))?;
            all.push(net.to_string());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_comments_and_blank_lines_and_is_told_where_it_is_wrong() {
        let text = "# ours\n10.0.0.0/8\n\n  192.0.2.7   # the old office\r\n2001:db8::/32";
        assert_eq!(lines(text).unwrap(), ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
        assert_eq!(lines("10.0.0.0/8\n\n10.0.0.1/8\n").unwrap_err().0, 3);
        assert_eq!(lines("10.0.0.0/8, 10.1.0.0/16").unwrap_err().0, 1);
    }

    #[test]
    fn an_empty_file_is_not_taken_for_an_empty_list() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# nobody yet\n").unwrap();
        let error =
            list("service web", "allow", &format!("@{}", file.path().display())).unwrap_err().to_string();
        assert!(error.contains("holds no prefix") && error.contains("--allow none"), "{error}");
        assert!(list("service web", "allow", "none").unwrap().is_empty());
    }

    #[test]
    fn nothing_takes_no_list_away() {
        for nothing in ["", " ", ",", " , ,"] {
            for read in [list, typed] {
                let error = read("service web", "deny", nothing).unwrap_err().to_string();
                assert!(
                    error.contains("names no prefix") && error.contains("write --deny none"),
                    "{nothing:?}: {error}"
                );
            }
        }
        assert!(list("service web", "deny", " none ").unwrap().is_empty());
        // What a list in a script ends with.
        assert_eq!(
            list("service web", "deny", "10.0.0.0/8, 192.0.2.7,").unwrap(),
            ["10.0.0.0/8", "192.0.2.7"]
        );
    }

    #[test]
    fn a_file_that_lacks_its_sign_is_told_of_it() {
        let refused = |text: &str| list("service web", "deny", text).unwrap_err().to_string();
        let here = tempfile::NamedTempFile::new_in(".").unwrap();
        let relative = here.path().file_name().unwrap().to_str().unwrap();
        for path in ["/etc/pen/deny.txt", "./deny.txt", relative, "10.0.0.0/8,/etc/pen/deny.txt"] {
            let error = refused(path);
            let name = path.rsplit(',').next().unwrap();
            assert!(
                error.contains(&format!("--deny @{name}")) && error.contains("read them from that file"),
                "{error}"
            );
        }
        assert!(refused("@").contains("lacks the name of a file"));
        assert!(refused("10.0.0.0/8,@/etc/pen/deny.txt").contains("one @FILE"));
        // What else is wrong is told by whoever reads the list.
        assert_eq!(list("service web", "deny", "ten").unwrap(), ["ten"]);
    }
}
