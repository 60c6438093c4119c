// Package doctor keeps what larder has found out about clients that do not trust its
// certificates, in bounded memory, and knows what to do about each.
//
// It is told by the wire (mitm.DistrustObserver) and asked by the admin API; it knows
// neither.
package doctor
