package main

import (
	"slices"
	"testing"

	"larder/kit"
	"larder/mitm/hello"
)

// TestSetupHasAnAnchorForEachTool that a failed handshake is put down to: log and
// doctor link there.
func TestSetupHasAnAnchorForEachTool(t *testing.T) {
	anchors := kit.Anchors()
	for _, tool := range hello.Tools() {
		if tool != hello.Unknown && !slices.Contains(anchors, tool) {
			t.Errorf("/setup has no #%s", tool)
		}
	}
}
