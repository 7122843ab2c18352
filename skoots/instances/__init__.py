"""Pure functions of label ids: components, following vectors, joining labels across faces, renumbering."""
