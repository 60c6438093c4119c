// Command conformance runs the public HTTP caching tests (npm package
// http-cache-tests, the ones of cache-tests.fyi) against larder, as a forward proxy
// for http:// and through CONNECT with interception, and prints what passes beside
// what other caches do. It needs node 20 and npm.
//
// It fails when a test fails that explained.txt has no word about, or passes that
// explained.txt says fails.
package main
