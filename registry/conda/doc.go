// Package conda reads the indexes of conda channels
// (https://docs.conda.io/projects/conda-build/en/stable/concepts/generating-index.html).
package conda
