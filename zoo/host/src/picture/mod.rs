//! Pictures: grids of images, plots, text thumbnails.
