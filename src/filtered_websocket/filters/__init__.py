"""The filter chains (`base`) and the bundled filters, one behaviour a file."""
