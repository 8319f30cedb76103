//! How a Kubernetes API is reached: the flags, named as kubectl names them, of all commands that need one.

use chancery_kubernetes::ClientOptions;

use crate::flags::{Flag, Flags, Kind};

pub(crate) const KUBECONFIG: Flag = Flag::new(
    "kubeconfig",
    Kind::Text,
    "A kubeconfig. Without one the API is reached as a pod does, or as kubectl does.",
);
pub(crate) const CONTEXT: Flag =
    Flag::new("context", Kind::Text, "The kubeconfig's context, if not the current one.");
pub(crate) const CLUSTER: Flag =
    Flag::new("cluster", Kind::Text, "The kubeconfig's cluster, if not the context's.");
pub(crate) const USER: Flag = Flag::new("user", Kind::Text, "The kubeconfig's user, if not the context's.");
pub(crate) const SERVER: Flag = Flag::new("server", Kind::Text, "The API's URL.").alias(&["s"]);
pub(crate) const AS: Flag = Flag::new("as", Kind::Text, "The user to act for.");

/// What these flags say; one that a command does not have says nothing.
pub(crate) fn client_options(flags: &Flags) -> ClientOptions {
    let text = |flag: &Flag| flags.non_empty(flag.name).map(str::to_owned);
    ClientOptions {
        kubeconfig: text(&KUBECONFIG).map(Into::into),
        context: text(&CONTEXT),
        cluster: text(&CLUSTER),
        user: text(&USER),
        server: text(&SERVER),
        impersonate: text(&AS),
        ..ClientOptions::default()
    }
}
