"""The engine: torch only, no scikit-learn. Imports point down the list in docs/method.md."""
