package tests

import (
	"slices"
	"testing"

	"larder/policy"
	"larder/registry/indexes"
)

// TestIndexKindsAreThoseOfThePolicy: what a rule may say, larder can read.
func TestIndexKindsAreThoseOfThePolicy(t *testing.T) {
	t.Parallel()
	if named, known := policy.IndexKinds(), indexes.Kinds(); !slices.Equal(named, known) {
		t.Errorf("a rule may say %q, and indexes of %q can be read", named, known)
	}
}
