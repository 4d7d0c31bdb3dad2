# Fits plots of SoyNAM (cran/SoyNAM 1.6.2) by lme4 1.1-31 on R 4.2.2 (Debian bookworm), 2026-11-30:
#   Rscript soynam.R soynam_plots.tsv.gz
# soynam.tsv: yield ~ 1 + (1|environ) + (1|strain) by restricted maximum likelihood on the plots of every 50th strain in
# alphabetical (C locale) order: number of plots, variances, log-likelihood, intercept.
library(lme4)
d <- read.delim(commandArgs(TRUE)[1])
names <- sort(unique(as.character(d$strain)), method = "radix")
d <- d[d$strain %in% names[seq(1, length(names), 50)] & !is.na(d$yield), ]
control <- lmerControl(optCtrl = list(ftol_abs = 1e-14, xtol_abs = 1e-12), calc.derivs = FALSE)
m <- lmer(yield ~ 1 + (1 | environ) + (1 | strain), d, control = control)
v <- as.data.frame(VarCorr(m))
of <- function(g) v$vcov[v$grp == g]
out <- data.frame(n = nrow(d), environ = of("environ"), strain = of("strain"), residual = of("Residual"),
  loglik = as.numeric(logLik(m)), intercept = fixef(m)[1])
write.table(signif(out, 10), "soynam.tsv", sep = "\t", quote = FALSE, row.names = FALSE)
