//! The typed `k8s.env` of a component: merged into a container's environment by name.

use super::Node;

/// Why an environment could not be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// The workload has no such container.
    #[error("the {kind} {name} has no container {container:?}")]
    NoContainer {
        /// The workload's kind.
        kind: String,
        /// The workload's name.
        name: String,
        /// The container's name.
        container: String,
    },
    /// The setting is no list of maps that have names.
    #[error("k8s.env: entry {0} has no name")]
    NoName(usize),
    /// It is no list.
    #[error("k8s.env is a {0}, and must be a list")]
    NoList(&'static str),
}

/// Merges variables into the environment of a workload's container: those that are there by their name, the others behind
/// them. A `value` takes the place of a `valueFrom`, and the other way round, because no variable may have both.
///
/// # Errors
/// There is no such container, or the variables are no list of maps with names; then nothing has changed.
pub fn merge_environment(
    workload: &mut Node,
    container: &str,
    variables: &Node,
) -> Result<(), EnvironmentError> {
    let variables = match variables {
        Node::Null => return Ok(()),
        Node::List(list) => list,
        other => return Err(EnvironmentError::NoList(other.kind())),
    };
    let name_of = |node: &Node| node.at(&["name"]).and_then(Node::as_text).map(str::to_owned);
    let mut named = Vec::new();
    for (at, variable) in variables.iter().enumerate() {
        named.push((name_of(variable).ok_or(EnvironmentError::NoName(at))?, variable));
    }
    let text =
        |node: &Node, keys: &[&str]| node.at(keys).and_then(Node::as_text).unwrap_or_default().to_owned();
    let missing = EnvironmentError::NoContainer {
        kind: text(workload, &["kind"]),
        name: text(workload, &["metadata", "name"]),
        container: container.to_owned(),
    };
    let containers = workload.at_mut(&["spec", "template", "spec", "containers"]);
    let Some(Node::List(containers)) = containers else { return Err(missing) };
    let is_it = |node: &&mut Node| name_of(node).is_some_and(|name| name == container);
    let Some(Node::Map(container)) = containers.iter_mut().find(is_it) else { return Err(missing) };
    if !matches!(container.get("env"), Some(Node::List(_))) && !named.is_empty() {
        container.insert("env", Node::List(Vec::new()));
    }
    let Some(Node::List(environment)) = container.get_mut("env") else { return Ok(()) };
    for (name, variable) in named {
        match environment.iter_mut().find(|entry| name_of(entry).is_some_and(|other| other == name)) {
            Some(entry) => {
                if let (Node::Map(entry), Node::Map(variable)) = (&mut *entry, variable) {
                    for (given, other) in [("value", "valueFrom"), ("valueFrom", "value")] {
                        if variable.get(given).is_some() {
                            entry.remove(other);
                        }
                    }
                }
                merge(entry, variable);
            }
            None => environment.push(variable.clone()),
        }
    }
    Ok(())
}

fn merge(node: &mut Node, with: &Node) {
    match (node, with) {
        (Node::Map(map), Node::Map(with)) => {
            for (key, value) in with.iter() {
                match (map.get_mut(key), value) {
                    (_, Node::Null) => drop(map.remove(key)),
                    (Some(place), value) => merge(place, value),
                    (None, value) => map.insert(key, value.clone()),
                }
            }
        }
        (node, with) => *node = with.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(before: &str, variables: &str) -> Result<String, EnvironmentError> {
        let workload = format!(
            "kind: Deployment\nmetadata: {{name: istiod}}\nspec: {{template: {{spec: {{containers: [{{name: other}}, \
             {{name: discovery{before}}}]}}}}}}"
        );
        let mut workload = Node::document(&workload).expect("YAML");
        merge_environment(&mut workload, "discovery", &Node::document(variables).expect("YAML"))?;
        let containers = workload.at(&["spec", "template", "spec", "containers"]).and_then(Node::as_list);
        let env = containers.and_then(|list| list.get(1)).and_then(|container| container.at(&["env"]));
        Ok(serde_json::to_string(&env).expect("JSON"))
    }

    #[test]
    fn variables_are_merged_by_name() {
        let before =
            ", env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: B, value: b}]";
        let variables = "[{name: B, value: c}, {name: A, valueFrom: {fieldRef: {apiVersion: v1}}}, {name: C, value: 'false'}]";
        assert_eq!(
            environment(before, variables).as_deref(),
            Ok(concat!(
                r#"[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.name","apiVersion":"v1"}}},"#,
                r#"{"name":"B","value":"c"},{"name":"C","value":"false"}]"#
            ))
        );
        assert_eq!(environment("", "[{name: A, value: x}]").as_deref(), Ok(r#"[{"name":"A","value":"x"}]"#));
    }

    #[test]
    fn no_variable_has_a_value_and_a_source() {
        let source = ", env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]";
        assert_eq!(
            environment(source, "[{name: A, value: x}]").as_deref(),
            Ok(r#"[{"name":"A","value":"x"}]"#)
        );
        let value = ", env: [{name: A, value: x}]";
        assert_eq!(
            environment(value, "[{name: A, valueFrom: {configMapKeyRef: {name: m, key: k}}}]").as_deref(),
            Ok(r#"[{"name":"A","valueFrom":{"configMapKeyRef":{"name":"m","key":"k"}}}]"#)
        );
    }

    #[test]
    fn what_has_no_names_or_no_container_is_refused() {
        assert_eq!(environment("", "[{value: x}]"), Err(EnvironmentError::NoName(0)));
        assert_eq!(environment("", "{A: x}"), Err(EnvironmentError::NoList("map")));
        let mut other = Node::document("kind: Deployment\nmetadata: {name: other}").expect("YAML");
        let merged = merge_environment(&mut other, "discovery", &Node::List(Vec::new()));
        assert_eq!(
            merged.map_err(|error| error.to_string()),
            Err("the Deployment other has no container \"discovery\"".to_owned())
        );
    }
}
