// Package policy reads larder.yaml and the embedded presets, which are written
// in the same words, and compiles them to a matcher: a host or a request in, a
// decision out, with the rule, file and line that made it.
//
// Start at Policy. Load and Parse make one, or say everything that is wrong with
// a file at once (Errors). Connect decides on a connection, Classify on a
// request, Explain says why. The first rule that matches in all it names wins;
// the file's own rules come before those of the presets.
//
// What a rule may say is documented at Rule, how hosts are written at
// HostPattern, the rest of the file at Settings; Annotated is the same as a file
// to start from. Presets are in policy/presets.
//
// Terms are those of RFC 9110 and RFC 9111; freshness extensions of RFC 5861.
// This package imports nothing of larder and does not touch the network.
package policy
