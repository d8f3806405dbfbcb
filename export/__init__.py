"""From torch to artefacts: the cut, the converters, the bundle's making and its verification."""
