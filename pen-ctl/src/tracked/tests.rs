//! Questions about clients, asked of a data plane in memory.
