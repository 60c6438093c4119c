package mitm

import (
	"net/http"
	"reflect"
)

// recoverExpect puts back the Expect field that net/http's HTTP/2 server takes from
// a request, so that the body is asked for when upstream asks (RFC 9110, Section
// 10.1.1) and not before. That the field was there shows only in the body that the
// server made, by whose first read it sends 100 Continue: net/http has no other
// word for it. Should it call that otherwise one day, the field stays away and the
// body is asked for at once, which TestContinueIsEndToEnd notices.
func recoverExpect(r *http.Request) {
	if r.ProtoMajor != 2 || r.ContentLength == 0 {
		return
	}
	body := reflect.ValueOf(r.Body)
	if body.Kind() != reflect.Pointer || body.Elem().Kind() != reflect.Struct {
		return
	}
	if waits := body.Elem().FieldByName("needsContinue"); waits.Kind() == reflect.Bool && waits.Bool() {
		r.Header["Expect"] = []string{"100-continue"}
	}
}
