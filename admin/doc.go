// Package admin is the operator's side of a running larder: health, readiness,
// metrics and reload, on a listener of its own that the proxy never exposes.
//
// It knows the rest of larder only through the small interfaces it declares.
//
//	GET  /               a page for people: version, uptime, readiness, links
//	GET  /-/healthy      200 while the process serves at all
//	GET  /-/ready        200, or 503 with the reasons as JSON
//	GET  /metrics        Prometheus
//	GET  /api/v1/stats   what the page shows, as JSON
//	POST /-/reload       reads the policy again; 500 with the errors as text
//
//	GET  /api/v1/doctor  clients that do not trust larder, a Diagnosis; DELETE forgets
//
// Below /api/v1/store it looks at the store and changes it. Lists are NDJSON, one
// value per line, without their end where something failed; calls that take time
// answer with a line per Event, of which the last has done or error:
//
//	GET    objects?match=GLOB   Object per line; without match all
//	GET    object?url=URL       the Objects stored under one URL, as JSON
//	DELETE objects?match=GLOB   Event of Removal
//	POST   verify?rate=BYTES    Event of Scrub; rate per second, without it none
//	GET    export?match=GLOB    an archive (package cache/archive)
//	POST   import               an archive in, Event of Imported and Refusal out
//	POST   warm?jobs=N          WarmItem per line in, Event of Warmed and WarmResult out
//	POST   fetch                a WarmItem in, the response that the proxy gives out
//
// Below /api/v1/wheels are the wheels of the operator's own, as JSON:
//
//	GET    wheels               Wheel of each
//	POST   wheels?file=NAME     a wheel in, Wheel out; source=WheelSource as JSON
//	DELETE wheels?match=GLOB    Wheel of each that went; GLOB is one of path.Match
//	GET    wheels/wanted        WantedSource of each source distribution fetched
//
// Errors are JSON: {"error":{"text":"…","hint":"…"}}. GLOB is a Glob.
//
// Who reaches the listener may read health, metrics and statistics, and reload; by
// default it is on the loopback address. The doctor says who fetches from where. The
// store API can remove and poison what all clients get, and shows URLs whole. So over
// TCP both ask for a token that is only in the state folder. Web pages in an operator's
// browser are kept out by two checks: of the Host, since a page can have its own name
// resolve to this address (DNS rebinding), and of the origin of what is not a GET
// (http.CrossOriginProtection).
package admin
