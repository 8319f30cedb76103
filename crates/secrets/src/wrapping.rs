use crate::engine::cubbyhole::Cubbyhole;
use crate::token::TokenStore;
use crate::{Answer, Error};
use chancery_api::{Ttl, envelope::WrapInfo};
use jiff::Timestamp;
pub async fn wrap(
    _: &TokenStore,
    _: &Cubbyhole,
    _: &Answer,
    _: Ttl,
    _: &str,
    _: Timestamp,
) -> Result<WrapInfo, Error> {
    Err(Error::denied())
}
