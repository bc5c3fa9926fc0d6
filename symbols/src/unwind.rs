//! Where functions begin and end, by the table that unwinding needs and that survives stripping.

use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection as _};

use crate::elf::Image;

/// The extents of functions, in order of their start. Compilers may give a function's rare paths an extent of its own.
pub(crate) struct Extents(Vec<Range<u64>>);

impl Extents {
    /// Of all functions that the image's `.eh_frame` describes; what cannot be read of it is left out.
    pub fn of(image: &Image<'_>) -> Self {
        let read = || Some(parse(image.section(".eh_frame")?, image.section_address(".eh_frame")?));
        let mut extents = read().unwrap_or_default();
        extents.sort_by_key(|extent| (extent.start, extent.end));
        extents.dedup();
        Self(extents)
    }

    /// The one that holds `address`.
    pub fn around(&self, address: u64) -> Option<Range<u64>> {
        let after = self.0.partition_point(|extent| extent.start <= address);
        let extent = self.0.get(after.checked_sub(1)?)?;
        extent.contains(&address).then(|| extent.clone())
    }
}

fn parse(section: &[u8], address: u64) -> Vec<Range<u64>> {
    let frame = EhFrame::new(section, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut entries = frame.entries(&bases);
    let mut extents = vec![];
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else { continue };
        extents.push(fde.initial_address()..fde.initial_address().saturating_add(fde.len()));
    }
    extents
}
