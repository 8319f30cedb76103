//! The server's answers, printed.

use chancery_client::{Answer, Auth, WrapInfo};

use super::{Doc, at_length_with_indent, human_duration, looks_like_duration, plain, quoted_list, table};

/// The answer as a table, or nothing if it says nothing.
pub fn secret_table(answer: &Answer) -> Option<String> {
    let mut rows = vec![row("Key", "Value")];
    if answer.lease_duration > 0 {
        let duration = human_duration(&Doc::from(answer.lease_duration));
        if answer.lease_id.is_empty() {
            rows.push(row("refresh_interval", duration));
        } else {
            rows.push(row("lease_id", &answer.lease_id));
            rows.push(row("lease_duration", duration));
            rows.push(row("lease_renewable", answer.renewable.to_string()));
        }
    }
    if let Some(auth) = &answer.auth {
        rows.extend(auth_rows(auth));
    }
    if let Some(wrap) = &answer.wrap_info {
        rows.extend(wrap_rows(wrap));
    }
    for (name, value) in answer.data.iter().flatten() {
        let doc = Doc::from(value);
        rows.push(row(name, if looks_like_duration(name) { human_duration(&doc) } else { plain(&doc) }));
    }
    (rows.len() > 1).then(|| table(&rows))
}

fn row(name: &str, value: impl Into<String>) -> Vec<String> {
    vec![name.to_owned(), value.into()]
}

fn auth_rows(auth: &Auth) -> Vec<Vec<String>> {
    // A token without end is most likely a root token.
    let duration = match auth.lease_duration {
        0 => "∞".to_owned(),
        seconds => human_duration(&Doc::from(seconds)),
    };
    let mut rows = vec![
        row("token", auth.client_token.expose()),
        row("token_accessor", &auth.accessor),
        row("token_duration", duration),
        row("token_renewable", auth.renewable.to_string()),
        row("token_policies", quoted_list(auth.token_policies.as_deref())),
        row("identity_policies", quoted_list(auth.identity_policies.as_deref())),
        row("policies", quoted_list(auth.policies.as_deref())),
    ];
    for (name, value) in auth.metadata.iter().flatten() {
        rows.push(row(&format!("token_meta_{name}"), value));
    }
    rows
}

fn wrap_rows(wrap: &WrapInfo) -> Vec<Vec<String>> {
    let mut rows = vec![
        row("wrapping_token:", wrap.token.expose()),
        row("wrapping_accessor:", &wrap.accessor),
        row("wrapping_token_ttl:", human_duration(&Doc::from(wrap.ttl))),
        row("wrapping_token_creation_time:", go_time(&wrap.creation_time)),
        row("wrapping_token_creation_path:", &wrap.creation_path),
    ];
    if !wrap.wrapped_accessor.is_empty() {
        rows.push(row("wrapped_accessor:", &wrap.wrapped_accessor));
    }
    rows
}

/// An RFC 3339 time as Go's `Time.String` shows it: `2026-11-24 02:21:18.7 +0000 UTC`.
fn go_time(text: &str) -> String {
    let Some((date, time)) = text.split_once('T') else { return text.to_owned() };
    if let Some(time) = time.strip_suffix('Z') {
        return format!("{date} {time} +0000 UTC");
    }
    let Some(at) = time.rfind(['+', '-']) else { return text.to_owned() };
    let (time, offset) = time.split_at(at);
    let offset = offset.replace(':', "");
    format!("{date} {time} {offset} {offset}")
}

/// The answer as a document, in the peer's order.
pub fn secret_doc(answer: &Answer) -> Doc {
    let data = answer.data.as_ref().map(data_doc);
    let warnings = answer.warnings.as_ref().map(|warnings| Doc::texts(warnings));
    let mut fields = vec![
        ("request_id", Doc::from(answer.request_id.as_str())),
        ("lease_id", Doc::from(answer.lease_id.as_str())),
        ("lease_duration", Doc::from(answer.lease_duration)),
        ("renewable", Doc::from(answer.renewable)),
        ("data", Doc::from(data)),
        ("warnings", Doc::from(warnings)),
    ];
    if let Some(auth) = &answer.auth {
        fields.push(("auth", auth_doc(auth)));
    }
    if let Some(wrap) = &answer.wrap_info {
        fields.push(("wrap_info", wrap_doc(wrap)));
    }
    Doc::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn data_doc(data: &std::collections::BTreeMap<String, chancery_client::Value>) -> Doc {
    Doc::Object(data.iter().map(|(name, value)| (name.clone(), value.into())).collect())
}

fn auth_doc(auth: &Auth) -> Doc {
    let texts = |list: &Option<Vec<String>>| Doc::from(list.as_ref().map(|list| Doc::texts(list)));
    let metadata = auth.metadata.as_ref().map(|metadata| {
        Doc::Object(metadata.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect())
    });
    Doc::object([
        ("client_token", auth.client_token.expose().into()),
        ("accessor", auth.accessor.as_str().into()),
        ("policies", texts(&auth.policies)),
        ("token_policies", texts(&auth.token_policies)),
        ("identity_policies", texts(&auth.identity_policies)),
        ("metadata", metadata.into()),
        ("orphan", auth.orphan.into()),
        ("entity_id", auth.entity_id.as_str().into()),
        ("lease_duration", auth.lease_duration.into()),
        ("renewable", auth.renewable.into()),
        ("mfa_requirement", auth.mfa_requirement.as_ref().map(Doc::from).into()),
    ])
}

fn wrap_doc(wrap: &WrapInfo) -> Doc {
    Doc::object([
        ("token", wrap.token.expose().into()),
        ("accessor", wrap.accessor.as_str().into()),
        ("ttl", wrap.ttl.into()),
        ("creation_time", wrap.creation_time.as_str().into()),
        ("creation_path", wrap.creation_path.as_str().into()),
        ("wrapped_accessor", wrap.wrapped_accessor.as_str().into()),
    ])
}

/// The field that `-field` names; `None` if it is not there, or null.
pub fn field_of(answer: &Answer, name: &str) -> Option<Doc> {
    let texts = |list: &Option<Vec<String>>| Some(Doc::texts(list.as_deref().unwrap_or_default()));
    let special = if let Some(auth) = &answer.auth {
        match name {
            "token" => Some(auth.client_token.expose().into()),
            "token_accessor" => Some(auth.accessor.as_str().into()),
            "token_duration" => Some(auth.lease_duration.into()),
            "token_renewable" => Some(auth.renewable.into()),
            "token_policies" => texts(&auth.token_policies),
            "identity_policies" => texts(&auth.identity_policies),
            "policies" => texts(&auth.policies),
            _ => name
                .strip_prefix("token_meta_")
                .and_then(|key| auth.metadata.as_ref()?.get(key).map(|value| Doc::from(value.as_str()))),
        }
    } else if let Some(wrap) = &answer.wrap_info {
        match name {
            "wrapping_token" => Some(wrap.token.expose().into()),
            "wrapping_accessor" => Some(wrap.accessor.as_str().into()),
            "wrapping_token_ttl" => Some(wrap.ttl.into()),
            "wrapping_token_creation_time" => Some(go_time(&wrap.creation_time).into()),
            "wrapping_token_creation_path" => Some(wrap.creation_path.as_str().into()),
            "wrapped_accessor" => Some(wrap.wrapped_accessor.as_str().into()),
            _ => None,
        }
    } else {
        match name {
            "refresh_interval" if answer.lease_duration > 0 => Some(answer.lease_duration.into()),
            "lease_id" if !answer.lease_id.is_empty() => Some(answer.lease_id.as_str().into()),
            "lease_duration" if !answer.lease_id.is_empty() => Some(answer.lease_duration.into()),
            "lease_renewable" if !answer.lease_id.is_empty() => Some(answer.renewable.into()),
            _ => None,
        }
    };
    let data = answer.data.as_ref();
    special
        .or_else(|| data.and_then(|data| data.get(name)).map(Doc::from))
        .or_else(|| data.filter(|_| name == "data").map(data_doc))
        .filter(|doc| *doc != Doc::Null)
}

/// The answer's warnings, as they are shown; nothing if there are none.
pub fn warnings_text(answer: &Answer) -> Option<String> {
    let warnings = answer.warnings.as_deref().filter(|warnings| !warnings.is_empty())?;
    let mut text = String::from("WARNING! The following warnings were returned from the server:\n");
    for warning in warnings {
        text.push_str(&format!("\n{}\n", at_length_with_indent(&format!("* {warning}"), 2)));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer {
        serde_json::from_str(json).expect("an answer")
    }

    #[test]
    fn a_login_shows_its_token_and_an_endless_one_shows_infinity() {
        let answer = answer(
            r#"{"auth":{"client_token":"s.x","accessor":"a","policies":["p"],"token_policies":["p"],
                "metadata":{"role_name":"cm"},"lease_duration":0,"renewable":false}}"#,
        );
        assert_eq!(
            secret_table(&answer).expect("a table"),
            "Key                     Value\n\
             ---                     -----\n\
             token                   s.x\n\
             token_accessor          a\n\
             token_duration          ∞\n\
             token_renewable         false\n\
             token_policies          [\"p\"]\n\
             identity_policies       []\n\
             policies                [\"p\"]\n\
             token_meta_role_name    cm"
        );
        assert_eq!(field_of(&answer, "token_policies").map(|doc| plain(&doc)).as_deref(), Some("[p]"));
        assert_eq!(field_of(&answer, "lease_duration"), None);
    }

    #[test]
    fn times_are_shown_as_go_shows_them() {
        assert_eq!(go_time("2026-11-24T02:21:18.72031801Z"), "2026-11-24 02:21:18.72031801 +0000 UTC");
        assert_eq!(go_time("2026-11-24T02:21:18+02:00"), "2026-11-24 02:21:18 +0200 +0200");
        assert_eq!(go_time("later"), "later");
    }

    #[test]
    fn an_answer_without_content_has_no_table_and_null_is_no_field() {
        assert_eq!(secret_table(&Answer::default()), None);
        let answer = answer(r#"{"data":{"nul":null,"ttl":3600,"n":1}}"#);
        assert_eq!(field_of(&answer, "nul"), None);
        assert_eq!(field_of(&answer, "ttl"), Some(Doc::from(3600_i64)));
        assert_eq!(
            field_of(&answer, "data").map(|doc| plain(&doc)).as_deref(),
            Some("map[n:1 nul:<nil> ttl:3600]")
        );
        assert!(secret_table(&answer).expect("a table").contains("ttl    1h"));
    }
}
