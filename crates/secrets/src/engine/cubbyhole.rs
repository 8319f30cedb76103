//! Cubbyholes.
use crate::error::Error;
use crate::token::TokenKey;
use chancery_storage::View;

pub(crate) async fn clear(root: &View, token: TokenKey) -> Result<(), Error> {
    let collection = format!("cubbyhole/{}", token.text());
    while root.delete_collection(&collection, 256).await? == 256 {}
    Ok(())
}
use crate::engine::{Engine, Mount};
use crate::route::Routes;
use std::sync::{Arc, LazyLock};
pub struct Cubbyhole(Arc<Mount>);
impl Cubbyhole {
    pub fn new(m: Arc<Mount>) -> Self {
        Self(m)
    }
}
static R: LazyLock<Routes<Cubbyhole>> = LazyLock::new(Routes::new);
impl Engine for Cubbyhole {
    fn routes() -> &'static Routes<Self> {
        &R
    }
}
