//! The `burn-hunyuan` program; see [`burn_hunyuan::cli`].

fn main() -> std::process::ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    keep_freed_memory();
    burn_hunyuan::cli::run()
}

/// Lets glibc keep freed memory for what is allocated next.
///
/// By default it gives large blocks back to the system at once. A step of training allocates what
/// the last one freed, and spends much of its time on pages that the system clears anew
/// (docs/performance.md). The largest weights stay above the threshold and are given back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    const MIB: libc::c_int = 1 << 20;
    // SAFETY: this sets numbers of the allocator, which all exist, while there is one thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 * MIB); // the most that it takes
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1); // never
        libc::mallopt(libc::M_TOP_PAD, 256 * MIB);
    }
}
