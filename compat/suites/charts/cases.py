"""What is rendered: (name of the case, chart, settings, release, namespace)."""

# Every switch of a chart, on.
PDB = {"enabled": True, "maxUnavailable": None, "minAvailable": 1}
COMMON = {"annotations": {"example.com/a": "1"}, "tolerations": [{"key": "ca", "operator": "Exists"}],
          "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
              {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}}]}},
          "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
          "volumes": [{"name": "extra", "configMap": {"name": "extra"}}],
          "volumeMounts": [{"name": "extra", "mountPath": "/extra", "readOnly": True}]}
ELSEWHERE = {key: value for key, value in COMMON.items() if key != "annotations"}

SERVER_ALL = {
    "global": {"imagePullSecrets": [{"name": "pull"}], "serverTelemetry": {"prometheusOperator": True}},
    "server": COMMON | {
        "image": {"registry": "registry.example.com/", "repository": "ca/chancery", "digest": "sha256:" + "0" * 64},
        "logLevel": "debug", "logFormat": "json", "apiAddr": "https://ca.example.com",
        "standalone": {"extraConfig": 'default_lease_ttl = "1h"\n'},
        "tls": {"secretName": "server-tls", "caKey": "ca.crt", "minVersion": "tls13", "clientCa": {"secretName": "client-ca"}},
        "seal": {"static": {"enabled": True, "secretName": "seal", "currentKeyId": "2026", "previousKeyId": "2025"}},
        "dataStorage": {"storageClass": "fast", "annotations": {"a": "b"}, "labels": {"c": "d"}},
        "auditStorage": {"enabled": True}, "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "updateStrategyType": "RollingUpdate", "service": {"type": "NodePort", "nodePort": 30820, "annotations": {"a": "b"}},
        "ingress": {"enabled": True, "ingressClassName": "nginx", "labels": {"a": "b"}, "annotations": {"c": "d"},
                    "hosts": [{"host": "ca.example.com", "paths": ["/v1/"]}], "tls": [{"hosts": ["ca.example.com"], "secretName": "public"}]},
        "podDisruptionBudget": PDB, "networkPolicy": {"enabled": True, "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]},
        "serviceAccount": {"name": "ca", "annotations": {"a": "b"}, "extraLabels": {"c": "d"}}, "statefulSet": {"annotations": {"a": "b"}},
        "extraLabels": {"team": "pki"}, "extraArgs": ["-exit-on-core-shutdown"], "extraEnvironmentVars": {"TZ": "UTC"},
        "extraSecretEnvironmentVars": [{"envName": "PROXY", "secretName": "proxy", "secretKey": "url"}], "priorityClassName": "high",
        "hostNetwork": True},
    "serverTelemetry": {"serviceMonitor": {"selectors": {"release": "prometheus"}, "tlsConfig": {"serverName": "ca.example.com"},
                                           "authorization": {"credentials": {"name": "metrics-token", "key": "token"}}}},
}

CONTROLLER_ALL = ELSEWHERE | {
    "global": {"imagePullSecrets": [{"name": "pull"}], "priorityClassName": "high", "logLevel": "debug",
               "leaderElection": {"namespace": "leases", "leaseName": "issuers", "leaseDuration": "30s", "renewDeadline": "20s",
                                  "retryPeriod": "5s"}},
    "replicaCount": 2, "imageRegistry": "registry.example.com", "image": {"tag": "1.2.3"}, "clusterResourceNamespace": "secrets",
    "namespace": "team", "enableCertificateOwnerRef": True, "disableAutoApproval": True,
    "config": {"numberOfConcurrentWorkers": 20, "copiedAnnotationPrefixes": ["*", "-kubectl.kubernetes.io/"],
               "certificateRequestMinimumBackoffDuration": "1m", "certificateRequestMaximumBackoffDuration": "1h",
               "issuerCheckInterval": "2m"},
    "serviceAccountTokens": [{"namespace": "team", "name": "issuer"}], "extraArgs": ["-context="], "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "http_proxy": "http://proxy:3128", "https_proxy": "http://proxy:3128", "no_proxy": ".svc", "strategy": {"type": "RollingUpdate"},
    "podDisruptionBudget": PDB, "serviceAccount": {"name": "issuers", "annotations": {"a": "b"}, "labels": {"c": "d"}},
    "deploymentAnnotations": {"a": "b"}, "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "commonLabels": {"team": "pki"},
    "hostNetwork": True, "webhook": {"securePort": 10260, "failurePolicy": "Ignore", "serviceAnnotations": {"a": "b"},
                                     "validatingWebhookConfigurationAnnotations": {"a": "b"},
                                     "mutatingWebhookConfigurationAnnotations": {"a": "b"}},
    "networkPolicy": {"enabled": True}, "prometheus": {"servicemonitor": {"enabled": True, "labels": {"a": "b"}, "annotations": {"c": "d"}}},
}

MESH_COMMON = ELSEWHERE | {
    "global": {"imagePullSecrets": [{"name": "pull"}]}, "imagePullSecrets": [{"name": "pull-too"}], "replicaCount": 2,
    "imageRegistry": "registry.example.com", "imageNamespace": "ca", "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "extraArgs": ["-max-concurrent-reconciles=4"], "extraEnv": [{"name": "TZ", "value": "UTC"}], "podDisruptionBudget": PDB,
    "networkPolicy": {"enabled": True}, "commonLabels": {"team": "pki"}, "deploymentLabels": {"a": "b"},
    "deploymentAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "podAnnotations": {"a": "b"}, "priorityClassName": "high",
    "serviceAccount": {"annotations": {"a": "b"}},
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra", "namespace": "{{ .Release.Namespace }}"}}],
}
MESH_APP = {
    "logLevel": "debug", "logFormat": "json", "metrics": {"port": 9500, "service": {"servicemonitor": {"enabled": True, "labels": {"a": "b"}}}},
    "readinessProbe": {"port": 6061, "path": "/ready"},
    "tls": {"trustDomain": "mesh.example.com", "trustDomainAliases": ["old.example.com"], "rootCAFile": "/extra/root.pem",
            "allowIntermediateRoot": True, "certificateDNSNames": ["ca.mesh.svc", "ca.example.com"], "certificateDuration": "2h",
            "servingTLSMinVersion": "VersionTLS12", "servingTLSCipherSuites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
            "servingTLSCurvePreferences": ["X25519", "P-256"], "istiodCertificateEnable": "dynamic", "istiodCertificateDuration": "2h",
            "istiodCertificateRenewBefore": "1h", "istiodPrivateKeyAlgorithm": "ECDSA", "istiodPrivateKeySize": 384,
            "istiodAdditionalDNSNames": ["istiod.example.com"]},
    "server": {"clusterID": "one,two", "maxCertificateDuration": "12h", "audiences": ["istio-ca", "other"], "maxConnections": 1000,
               "authenticators": {"enableClientCert": True}, "caTrustedNodeAccounts": "istio-system/ztunnel",
               "serving": {"address": "::", "port": 7443, "signatureAlgorithm": "RSA", "certificateKeySize": 3072}},
    "istio": {"revisions": ["default", "canary"], "namespace": "istio"},
    "controller": {"leaderElectionNamespace": "mesh", "configmapNamespaceSelector": "mesh in (a,b),!off",
                   "disableKubernetesClientRateLimiter": True},
}
ROOT_MOUNTED = ["app.tls.rootCAFile=/var/run/secrets/istio-csr/ca.cert.pem", "volumeMounts[0].name=root-ca",
                "volumeMounts[0].mountPath=/var/run/secrets/istio-csr", "volumes[0].name=root-ca", "volumes[0].secret.secretName=istio-root-ca"]
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

CASES = [
    ("server-default", "chancery", {}, "vault", "vault"),
    # The founding document's first command.
    ("server-dev", "chancery", ["server.dev.enabled=true"], "vault", "vault-demo"),
    ("server-plain", "chancery", {"global": {"tlsDisable": True, "openshift": True}, "server": {
        "standalone": {"unauthenticatedMetricsAccess": True}, "dataStorage": {"enabled": False}, "ingress": {"enabled": True}},
        "serverTelemetry": {"serviceMonitor": {"enabled": True}}}, "chancery", "pki"),
    ("server-own-config", "chancery", {"server": {"serviceAccount": {"create": False}, "standalone": {"config": {
        "storage": {"embedded": {"path": "/var/lib/chancery/store"}}, "api_addr": "https://ca",
        "listener": {"tcp": {"address": "[::]:8200", "tls_cert_file": "/etc/chancery/tls/tls.crt",
                             "tls_key_file": "/etc/chancery/tls/tls.key"}}}}}}, "vault", "vault"),
    ("server-all", "chancery", SERVER_ALL, "vault", "vault"),
    ("controller-default", "chancery-controller", {}, "chancery-controller", "cert-manager"),
    ("controller-all", "chancery-controller", CONTROLLER_ALL, "issuers", "pki"),
    ("controller-bare", "chancery-controller", ["webhook.enabled=false,prometheus.enabled=false,crds.enabled=false"], "c", "pki"),
    ("mesh-default", "chancery-mesh", {}, "cert-manager-istio-csr", "cert-manager"),
    # The founding document's second command.
    ("mesh-document", "chancery-mesh", ["app.server.clusterID=cluster-1", "app.certmanager.issuer.name=vault-issuer", *ROOT_MOUNTED],
     "cert-manager-istio-csr", "cert-manager"),
    ("mesh-requests-all", "chancery-mesh", [MESH_COMMON, {"app": MESH_APP | {
        "certmanager": {"namespace": "requests", "preserveCertificateRequests": True, "issuer": {"kind": "ClusterIssuer"},
                        "additionalAnnotations": [{"name": "example.com/team", "value": "a b"}]},
        "runtimeConfiguration": {"create": True}}}], "mesh", "mesh"),
    ("mesh-direct-approle", "chancery-mesh", [MESH_COMMON, {"app": MESH_APP | {"signer": "direct", "direct": {
        "server": "https://vault:8200", "servingPath": "istioca/sign/serving", "namespace": "team", "serverName": "vault.example.com", "timeout": "5s",
        "caBundleSecretRef": {"name": "vault-ca"},
        "auth": {"appRole": {"roleId": "091aa68b", "secretRef": {"name": "mesh-approle"}}}}}}], "mesh", "mesh"),
    ("mesh-direct-kubernetes", "chancery-mesh", {"app": {"signer": "direct", "direct": {
        "server": "https://vault:8200", "caBundleConfigMapRef": {"name": "vault-ca"},
        "auth": {"kubernetes": {"role": "mesh-ca", "audience": "vault"}}}}}, "mesh", "mesh"),
    ("mesh-direct-token", "chancery-mesh", {"app": {"signer": "direct", "controller": {"disableRootConfigMap": True}, "tls": {
        "istiodCertificateEnable": False}, "direct": {"server": "http://vault:8200", "auth": {"tokenSecretRef": {"name": "token"}}}}},
     "mesh", "mesh"),
    ("istio-first-step", "chancery-istio", ["chancery.server.dev.enabled=true"], "istio-ca", "cert-manager"),
    ("istio-second-step", "chancery-istio", ["chancery.server.dev.enabled=true,chancery-mesh.enabled=true",
                                             {"issuer": {"appRole": {"roleId": "091aa68b", "secretId": "a18a7f36"}}, "rootCA": {"pem": PEM}}],
     "istio-ca", "cert-manager"),
    ("istio-server-elsewhere", "chancery-istio", ["chancery.enabled=false,chancery-mesh.enabled=true", {
        "issuer": {"server": "https://ca.example.com", "caBundle": PEM, "appRole": {"roleId": "091aa68b"}}}], "istio-ca", "cert-manager"),
]

# Settings that are refused, and a part of the sentence.
REFUSED = [
    ("chancery", ["server.standalone.enabled=false"], "nothing is enabled"),
    ("chancery", ["server.seal.static.enabled=true"], "server.seal.static needs secretName"),
    ("chancery", ["server.seal.static.enabled=true,server.seal.static.secretName=s"], "server.seal.static needs currentKeyId"),
    ("chancery", ["serverTelemetry.serviceMonitor.enabled=true"], "sys/metrics needs a token"),
    ("chancery", ["server.dev.enable=true"], "enable"),
    ("chancery", ["server.logLevel=loud"], "logLevel"),
    ("chancery", ["server.dataStorage.size=much"], "size"),
    ("chancery-controller", ["config.issuerCheckInterval=often"], "issuerCheckInterval"),
    ("chancery-controller", ["serviceAccount.create=false"], "needs serviceAccount.name"),
    ("chancery-mesh", ["serviceAccount.create=false"], "needs serviceAccount.name"),
    ("chancery-controller", ["webhook.replicaCount=2"], "replicaCount"),
    ("chancery-controller", ["prometheus.enabled=false,prometheus.servicemonitor.enabled=true"], "needs prometheus.enabled"),
    ("chancery-mesh", ["app.signer=vault"], "signer"),
    ("chancery-mesh", ["app.signer=direct"], "needs one way to log in"),
    ("chancery-mesh", ["app.signer=direct,app.direct.auth.kubernetes.role=r"], "needs app.direct.server"),
    ("chancery-mesh", ["app.signer=direct,app.direct.server=http://a,app.direct.auth.kubernetes.role=r,app.direct.auth.appRole.roleId=r"],
     "needs one way to log in"),
    ("chancery-mesh", ["app.signer=direct,app.direct.server=http://a,app.direct.auth.appRole.roleId=r"], "needs secretRef.name"),
    ("chancery-mesh", ["app.direct.path=istioca/issue/cluster-local"], "path"),
    ("chancery-mesh", ["app.tls.rootCaFile=/a"], "rootCaFile"),
    ("chancery-mesh", ["app.tls.certificateDuration=1 hour"], "certificateDuration"),
    ("chancery-mesh", ["app.istio.revisions={default,default}"], "is there twice"),
    ("chancery-istio", ["chancery-mesh.enabled=true"], "needs the Issuer"),
    ("chancery-istio", ["chancery.enabled=false,issuer.appRole.roleId=r"], "issuer.server must be given"),
    ("chancery-istio", {"rootCA": {"pem": "-----BEGIN PRIVATE KEY-----"}}, "holds a private key"),
    ("chancery-istio", ["chancery.server.dev.enable=true"], "enable"),
]
