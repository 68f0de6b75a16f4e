//! Without content: the package only names its dependency.
