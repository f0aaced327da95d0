// A container that shows the way through a cluster's network: it says its own name and whom it was asked by, and on
// /ask?url=… it asks somebody else and passes the answer on.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	name, err := os.Hostname()
	if err != nil {
		panic(err)
	}
	// A connection for each question: every one is a choice of the Service's.
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	http.HandleFunc("/", func(answer http.ResponseWriter, asked *http.Request) {
		from, _, _ := net.SplitHostPort(asked.RemoteAddr)
		fmt.Fprintf(answer, "%s %s", name, from)
	})
	http.HandleFunc("/ask", func(answer http.ResponseWriter, asked *http.Request) {
		got, err := client.Get(asked.FormValue("url"))
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadGateway)
			return
		}
		defer got.Body.Close()
		io.Copy(answer, got.Body)
	})
	panic(http.ListenAndServe(":8080", nil))
}
