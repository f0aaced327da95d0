{{- define "pullpass.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 48 characters, so that with its longest suffix ("-token-server") no name is longer than 63. */}}
{{- define "pullpass.fullname" -}}
{{- $name := include "pullpass.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pullpass.operatorName" -}}{{ include "pullpass.fullname" . }}-operator{{- end -}}
{{- define "pullpass.tokenServerName" -}}{{ include "pullpass.fullname" . }}-token-server{{- end -}}
{{/* The headless Service that finds each replica's management port. Shortened by itself: other names must not change. */}}
{{- define "pullpass.tokenServerManagementName" -}}
{{ include "pullpass.fullname" . | trunc 39 | trimSuffix "-" }}-token-server-management
{{- end -}}
{{- define "pullpass.registriesName" -}}{{ include "pullpass.fullname" . }}-registries{{- end -}}
{{- define "pullpass.registryName" -}}{{ include "pullpass.fullname" . }}-registry{{- end -}}

{{- define "pullpass.credentialsNamespace" -}}
{{- default (printf "%s-credentials" (.Release.Namespace | trunc 51 | trimSuffix "-")) .Values.credentials.namespace -}}
{{- end -}}

{{- define "pullpass.caSecret" -}}
{{- default (printf "%s-ca" (include "pullpass.fullname" .)) .Values.keys.caSecret -}}
{{- end -}}
{{- define "pullpass.seedSecret" -}}
{{- default (printf "%s-seed" (include "pullpass.fullname" .)) .Values.keys.seedSecret -}}
{{- end -}}
{{- define "pullpass.trustConfigMap" -}}
{{- default (printf "%s-trust" (include "pullpass.fullname" .)) .Values.keys.trustConfigMap -}}
{{- end -}}

{{/* All registries, the default one first, as the file that both processes read (`--registries`). */}}
{{- define "pullpass.registries" -}}
{{- $tokens := .Values.accessTokens -}}
{{- $default := dict
  "name" "default"
  "service" $tokens.service
  "issuer" $tokens.issuer
  "hosts" .Values.registryHosts
  "accessTokenLifetimeSeconds" (int $tokens.lifetimeSeconds)
  "caSecret" (include "pullpass.caSecret" .)
  "trustConfigMap" (include "pullpass.trustConfigMap" .)
-}}
{{- $all := list $default -}}
{{- /* A values file may say null. */ -}}
{{- range .Values.registries | default list -}}
{{- $all = append $all (dict
  "name" .name
  "service" .service
  "issuer" (default $tokens.issuer .issuer)
  "hosts" .hosts
  "accessTokenLifetimeSeconds" (int (default $tokens.lifetimeSeconds .lifetimeSeconds))
  "caSecret" (default (printf "%s-ca-%s" (include "pullpass.fullname" $) .name) .caSecret)
  "trustConfigMap" (default (printf "%s-trust-%s" (include "pullpass.fullname" $) .name) .trustConfigMap)
) -}}
{{- end -}}
{{- dict "registries" $all | toPrettyJson -}}
{{- end -}}

{{- define "pullpass.serverCASecret" -}}
{{- default (printf "%s-server-ca" (include "pullpass.fullname" .)) .Values.keys.serverCASecret -}}
{{- end -}}
{{- define "pullpass.serverTrustConfigMap" -}}
{{- default (printf "%s-server-trust" (include "pullpass.fullname" .)) .Values.keys.serverTrustConfigMap -}}
{{- end -}}

{{/* The Secret that a server serves HTTPS with, empty for HTTP. */}}
{{- define "pullpass.tokenServerTLSSecret" -}}
{{- with .Values.tokenServer.tls -}}
{{- if .enabled -}}{{ default (printf "%s-tls" (include "pullpass.tokenServerName" $)) .secretName }}{{- end -}}
{{- end -}}
{{- end -}}
{{- define "pullpass.registryTLSSecret" -}}
{{- with .Values.registry -}}
{{- if and .enabled .tls.enabled -}}{{ default (printf "%s-tls" (include "pullpass.registryName" $)) .tls.secretName }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of a server's port: what speaks it. */}}
{{- define "pullpass.tokenServerScheme" -}}{{ ternary "https" "http" .Values.tokenServer.tls.enabled }}{{- end -}}
{{- define "pullpass.registryScheme" -}}{{ ternary "https" "http" .Values.registry.tls.enabled }}{{- end -}}

{{/* The certificates that the operator makes, one "SECRET=HOST,HOST" a line. */}}
{{- define "pullpass.serverCertificates" -}}
{{- $realm := (urlParse (default "" .Values.accessTokens.realm)).hostname -}}
{{- $token := .Values.tokenServer.tls -}}
{{- if and $token.enabled (not $token.secretName) -}}
{{- $hosts := concat (list $realm) $token.hosts -}}
{{ include "pullpass.tokenServerTLSSecret" . }}={{ include "pullpass.serverHosts" (dict "root" . "service" (include "pullpass.tokenServerName" .) "hosts" $hosts) }}
{{ end -}}
{{- $registry := .Values.registry.tls -}}
{{- if and .Values.registry.enabled $registry.enabled (not $registry.secretName) -}}
{{- $hosts := list -}}
{{- range .Values.registryHosts -}}
{{- $hosts = append $hosts (urlParse (printf "//%s" .)).hostname -}}
{{- end -}}
{{ include "pullpass.registryTLSSecret" . }}={{ include "pullpass.serverHosts" (dict "root" . "service" (include "pullpass.registryName" .) "hosts" (concat $hosts $registry.hosts)) }}
{{ end -}}
{{- end -}}

{{/* What a server is called: its Service in every form that pods may use, and the given hosts. */}}
{{- define "pullpass.serverHosts" -}}
{{- $namespaced := printf "%s.%s" .service .root.Release.Namespace -}}
{{- $names := list (printf "%s.svc" $namespaced) (printf "%s.svc.cluster.local" $namespaced) $namespaced .service -}}
{{- concat $names .hosts | compact | uniq | join "," -}}
{{- end -}}

{{- define "pullpass.operatorServiceAccount" -}}
{{- $account := .Values.operator.serviceAccount -}}
{{- default (ternary (include "pullpass.operatorName" .) "default" $account.create) $account.name -}}
{{- end -}}
{{- define "pullpass.tokenServerServiceAccount" -}}
{{- $account := .Values.tokenServer.serviceAccount -}}
{{- default (ternary (include "pullpass.tokenServerName" .) "default" $account.create) $account.name -}}
{{- end -}}

{{/* The labels of every object. Call with (dict "root" $ "component" "…"), the component may be empty. */}}
{{- define "pullpass.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: pullpass
{{ include "pullpass.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The labels that select pods: never any that change with a version or that users set. */}}
{{- define "pullpass.selector" -}}
app.kubernetes.io/name: {{ include "pullpass.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name | trunc 63 | trimSuffix "-" }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* An image reference. Call with (dict "root" $ "image" .Values.image). */}}
{{- define "pullpass.image" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.image.tag | toString | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* What all pods have in common. Call with (dict "root" $ "workload" .Values.operator). */}}
{{- define "pullpass.pod" -}}
enableServiceLinks: false
{{- $secrets := list -}}
{{- range concat (.root.Values.imagePullSecrets) (.root.Values.global.imagePullSecrets | default list) -}}
{{- $secrets = append $secrets (ternary . (dict "name" .) (kindIs "map" .)) -}}
{{- end }}
{{- with $secrets | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .workload.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .workload.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .workload.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .workload.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a pod. Call with root, component, workload and, if there is any, annotations. */}}
{{- define "pullpass.podMetadata" -}}
labels:
  {{- $labels := merge (include "pullpass.labels" . | fromYaml) .workload.podLabels }}
  {{- toYaml $labels | nindent 2 }}
{{- with merge (.annotations | default dict) .workload.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
