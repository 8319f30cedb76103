//! The workload agent.
