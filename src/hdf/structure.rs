//! What a file may consist of: groups and plain datasets that stand in it, each reached by one path.

use hdf5::dataset::Layout;
use hdf5::types::TypeDescriptor;
use hdf5::{Dataset, Group, LinkType, LocationType};

/// Groups within groups.
const DEPTH: usize = 4;

/// Looks at all objects of a file of `length` bytes; an error is what was found.
pub(super) fn check(root: &Group, length: u64) -> Result<(), String> {
    let mut left = length;
    group(root, DEPTH, &mut left)
}

fn group(here: &Group, depth: usize, left: &mut u64) -> Result<(), String> {
    let unread = |e: hdf5::Error| super::read::first_line(&e);
    let mut links = Vec::new();
    let visit = |name: &str, info: hdf5::LinkInfo| {
        links.push((name.to_owned(), info.link_type));
        Ok(())
    };
    here.iter_visit_default(visit).map_err(unread)?;
    for (name, link) in links {
        if link != LinkType::Hard {
            return Err(format!("one whose {name} is a link to another place"));
        }
        let info = here.loc_info_by_name(&name).map_err(unread)?;
        if info.num_links != 1 {
            return Err(format!("one whose {name} has two names"));
        }
        match info.loc_type {
            LocationType::Group if depth > 0 => {
                group(&here.group(&name).map_err(unread)?, depth - 1, left)?;
            }
            LocationType::Dataset => dataset(&name, &here.dataset(&name).map_err(unread)?, left)?,
            _ => return Err(format!("one whose {name} is no dataset")),
        }
    }
    Ok(())
}

/// Takes a dataset's bytes from those that are left of the file.
fn dataset(name: &str, set: &Dataset, left: &mut u64) -> Result<(), String> {
    let properties = set.create_plist().map_err(|e| super::read::first_line(&e))?;
    if properties.layout() == Layout::Virtual || !properties.external().is_empty() {
        return Err(format!("one whose {name} stands in another file"));
    }
    if !properties.filters().is_empty() {
        return Err(format!("one whose {name} is compressed"));
    }
    let dtype = set.dtype().and_then(|t| t.to_descriptor());
    let size = match dtype {
        Ok(t @ (TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) | TypeDescriptor::Float(_))) => {
            t.size() as u64
        }
        _ => return Err(format!("one whose {name} holds no numbers")),
    };
    let shape = set.get_shape().map_err(|e| super::read::first_line(&e))?;
    let bytes = shape.iter().try_fold(size, |all, d| all.checked_mul(*d as u64));
    match bytes.and_then(|bytes| left.checked_sub(bytes)) {
        Some(rest) => *left = rest,
        None => return Err(format!("one whose {name} is larger than the file")),
    }
    Ok(())
}
