//! Memory in large pages, where the system has them: first touching small ones may cost more than the work on them,
//! and what is read here and there is found sooner in large ones.

/// Room for `length` elements.
pub fn room<T>(length: usize) -> Vec<T> {
    let mut room: Vec<T> = Vec::with_capacity(length);
    let memory = room.spare_capacity_mut();
    advise(memory.as_mut_ptr().cast(), size_of_val(memory));
    room
}

/// `length` zeros, which take no memory before they are touched.
pub fn zeroed<T: Copy + Default>(length: usize) -> Vec<T> {
    let mut zeros = vec![T::default(); length];
    advise(zeros.as_mut_ptr().cast(), size_of_val(&zeros[..]));
    zeros
}

/// Asks for large pages from `start` on. The advice changes no contents; it may be refused, which changes nothing.
fn advise(start: *mut u8, bytes: usize) {
    const LARGE: usize = 2 << 20;
    #[cfg(target_os = "linux")]
    if bytes >= LARGE {
        const PAGE: usize = 4096;
        let skip = start.align_offset(PAGE);
        // SAFETY: only whole pages of the memory are named; the advice neither reads nor writes them.
        unsafe {
            libc::madvise(start.add(skip).cast(), (bytes - skip) / PAGE * PAGE, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes, LARGE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_any_size_is_usable() {
        for length in [0, 1, 1000, (2 << 20) / 8, 1_000_003] {
            let mut filled = room(length);
            filled.resize(length, 3u64);
            assert_eq!(filled.iter().sum::<u64>(), 3 * length as u64);
            assert!(zeroed::<i64>(length).iter().all(|&x| x == 0) && zeroed::<u8>(length).len() == length);
        }
    }
}
