//! Lists of prefixes as they are typed: with commas between them, or in a file of their own.

use super::error::CliError;
use crate::api::ApiError;
use crate::state::text;

/// What stands between commas; `none` = nothing.
pub(super) fn typed(text: &str) -> Vec<String> {
    let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    if text == "none" { Vec::new() } else { all.map(str::to_owned).collect() }
}

/// The same, or behind an `@` the name of a file with one a line. `about` and `flag` are what complaints are about.
///
/// # Errors
/// The file cannot be read, says something else, or nothing.
pub(super) fn list(about: &str, flag: &str, text: &str) -> Result<Vec<String>, CliError> {
    let Some(path) = text.strip_prefix('@') else { return Ok(typed(text)) };
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
}
