//! Who may approve and deny: whoever has the verb `approve` on the `signers` of an issuer.

use chancery_kubernetes::cert_manager::{
    APPROVED, CLUSTER_ISSUER, CertificateRequest, Condition, DENIED, GROUP, IssuerReference, condition,
};
use chancery_kubernetes::{ApiError, request};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::review::UserInfo;

/// Whether a change of the conditions is a decision: an approval or a denial that was not there.
pub(crate) fn is_decision(old: &[Condition], new: &[Condition]) -> bool {
    [APPROVED, DENIED].into_iter().any(|kind| condition(old, kind) != condition(new, kind))
}

/// The names of signers of which one must be allowed: all of the issuer's kind, and the one.
///
/// `plural` and `namespaced` are of the issuer's kind.
pub(crate) fn signers(
    reference: &IssuerReference,
    plural: &str,
    namespaced: bool,
    namespace: &str,
) -> [String; 2] {
    let (group, name) = (reference.group(), &reference.name);
    let own = if namespaced { format!("{namespace}.{name}") } else { name.clone() };
    [format!("{plural}.{group}/*"), format!("{plural}.{group}/{own}")]
}

/// Why somebody may not decide.
#[derive(Debug)]
pub(crate) enum NotAllowed {
    /// That is how it is.
    Forbidden(String),
    /// It could not be found out.
    Unknown(ApiError),
}

/// Asks the API server whether a user may approve and deny requests for this one's issuer.
pub(crate) async fn check(
    client: &Client,
    user: &UserInfo,
    asked: &CertificateRequest,
) -> Result<(), NotAllowed> {
    let reference = &asked.spec.issuer_ref;
    let namespace = asked.metadata.namespace.as_deref().unwrap_or_default();
    let (plural, namespaced) = resource(client, reference).await?;
    for name in signers(reference, &plural, namespaced, namespace) {
        if is_allowed(client, user, &name).await.map_err(NotAllowed::Unknown)? {
            return Ok(());
        }
    }
    let IssuerReference { name, .. } = reference;
    Err(NotAllowed::Forbidden(format!(
        "status.conditions: Forbidden: user {:?} does not have permissions to set approved/denied conditions for issuer \
         {{{name} {} {}}}",
        user.username,
        reference.kind(),
        reference.group()
    )))
}

/// Plural and scope of an issuer's kind. Those of other groups are looked up.
async fn resource(client: &Client, reference: &IssuerReference) -> Result<(String, bool), NotAllowed> {
    let kind = reference.kind();
    if reference.is_ours() {
        return Ok(if kind == CLUSTER_ISSUER {
            ("clusterissuers".to_owned(), false)
        } else {
            ("issuers".to_owned(), true)
        });
    }
    let missing = || {
        NotAllowed::Forbidden(format!(
            "spec.issuerRef: Forbidden: referenced signer resource does not exist: {{{} {kind} {}}}",
            reference.name,
            reference.group()
        ))
    };
    let groups = request(client.list_api_groups()).await.map_err(NotAllowed::Unknown)?;
    let group = groups.groups.iter().find(|group| group.name == reference.group()).ok_or_else(missing)?;
    for version in &group.versions {
        let listed = request(client.list_api_group_resources(&version.group_version));
        let listed = listed.await.map_err(NotAllowed::Unknown)?;
        let found = listed.resources.into_iter().find(|one| one.kind == kind && !one.name.contains('/'));
        if let Some(found) = found {
            return Ok((found.name, found.namespaced));
        }
    }
    Err(missing())
}

async fn is_allowed(client: &Client, user: &UserInfo, signer: &str) -> Result<bool, ApiError> {
    let UserInfo { username, uid, groups, extra } = user.clone();
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: some(username),
            uid: some(uid),
            groups: Some(groups),
            extra: Some(extra),
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                resource: Some("signers".to_owned()),
                name: Some(signer.to_owned()),
                verb: Some("approve".to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = request(reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_signer_or_all_of_its_kind_may_be_allowed() {
        let issuer = IssuerReference { name: "i".into(), ..IssuerReference::default() };
        assert_eq!(
            signers(&issuer, "issuers", true, "ns"),
            ["issuers.cert-manager.io/*", "issuers.cert-manager.io/ns.i"]
        );
        let cluster = IssuerReference::new("c", "ClusterIssuer", "cert-manager.io");
        assert_eq!(
            signers(&cluster, "clusterissuers", false, "ns"),
            ["clusterissuers.cert-manager.io/*", "clusterissuers.cert-manager.io/c"]
        );
    }

    #[test]
    fn only_approvals_and_denials_are_decisions() {
        let one = |kind: &str, status: bool| Condition::new(kind, status, "R", "M");
        assert!(!is_decision(&[], &[one("Ready", true)]));
        assert!(!is_decision(&[one(APPROVED, true)], &[one(APPROVED, true), one("Ready", true)]));
        assert!(is_decision(&[], &[one(APPROVED, true)]));
        assert!(is_decision(&[one("Ready", false)], &[one("Ready", false), one(DENIED, true)]));
    }
}
