//! How long a token or lease may live.

use chancery_api::Ttl;
use jiff::Timestamp;

use crate::engine::Mount;
use crate::error::Error;

/// What goes into a lifetime besides the mount's own limits. Zero is "not given" everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lifetime {
    /// What the client asked for.
    pub increment: Ttl,
    /// What the role or the engine gives when the client asked for nothing.
    pub default: Ttl,
    /// A lifetime in place of both, granted anew with every renewal.
    pub period: Ttl,
    /// The role's limit.
    pub max: Ttl,
    /// A hard end that even a period does not pass.
    pub explicit_max: Ttl,
}

/// A lifetime within all limits, and what to tell the client about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// The lifetime from now on.
    pub ttl: Ttl,
    /// What was shortened.
    pub warnings: Vec<String>,
}

impl Lifetime {
    /// The lifetime to grant at `now` to what was issued at `issued`, below a mount's limits.
    ///
    /// As the peer does, the shortest of the three maxima counts from the issue, and everything is
    /// reckoned in whole seconds. A period is capped by the maxima but not by the time since the
    /// issue, unless there is an explicit maximum.
    pub fn grant(&self, mount: &Mount, issued: Timestamp, now: Timestamp) -> Result<Granted, Error> {
        let Self { increment, default, period, max, explicit_max } = *self;
        let mut warnings = Vec::new();
        let limit = mount.max_ttl().capped(max).capped(explicit_max);
        if limit.is_zero() {
            return Err(Error::internal("internal error", "max TTL must be greater than zero"));
        }
        let (ttl, end) = if period.is_zero() {
            (increment.or(default).or(mount.default_ttl()), limit)
        } else {
            if period > limit {
                warnings.push(format!(
                    "period of \"{period}\" exceeded the effective max_ttl of \"{limit}\"; period value is capped accordingly"
                ));
            }
            (period.min(limit), explicit_max)
        };
        if end.is_zero() {
            return Ok(Granted { ttl, warnings });
        }
        let age = u64::try_from(now.as_second().saturating_sub(issued.as_second())).unwrap_or(0);
        let left = Ttl::seconds(end.as_secs().saturating_sub(age));
        if left.is_zero() {
            return Err(Error::internal(
                "1 error occurred:\n\t* past the max TTL, cannot renew\n\n",
                "the longest lifetime is over",
            ));
        }
        if ttl > left {
            warnings.push(format!(
                "TTL of \"{ttl}\" exceeded the effective max_ttl of \"{left}\"; TTL value is capped accordingly"
            ));
        }
        Ok(Granted { ttl: ttl.min(left), warnings })
    }
}
